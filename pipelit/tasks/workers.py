"""What a worker does besides its tasks: say that it is there, keep the maintenance tick going."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from celery import bootsteps
from flask import Flask
from redis.exceptions import RedisError

from pipelit import clock
from pipelit.engine.keys import WORKERS
from pipelit.engine.runtime import EXTENSION, Engine
from pipelit.extensions import celery
from pipelit.services.health import Sign
from pipelit.tasks.base import CONF_KEY

log = structlog.get_logger(__name__)

SEEN_EVERY_SECONDS = 5.0
MENDED_EVERY_SECONDS = 1.0
FORGOTTEN_AFTER_MS = 300_000


class SignsOfLife(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Has the consumer's timer call us: it runs whatever the pool is busy with.

    A step of the consumer, and not something done once when the worker is ready: with a connection the consumer loses
    everything that its timer had to do, and begins its steps again with the next one.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Report at once, and from now on."""
        app: Flask = celery.conf[CONF_KEY]
        engine: Engine = app.extensions[EXTENSION]
        queues = tuple(parent.app.amqp.queues.consume_from)
        is_here = partial(_seen, engine, parent.hostname, queues)
        for every, report in ((SEEN_EVERY_SECONDS, is_here), (MENDED_EVERY_SECONDS, engine.tick.ensure)):
            call = partial(_reported, report)
            call()
            parent.timer.call_repeatedly(every, call)


celery.steps["consumer"].add(SignsOfLife)


def seen(engine: Engine, hostname: str, queues: Sequence[str]) -> None:
    """Note that a worker is alive and what it serves, and mend the tick's chain if it is broken."""
    _seen(engine, hostname, queues)
    engine.tick.ensure()


def _seen(engine: Engine, hostname: str, queues: Sequence[str]) -> None:
    now = clock.now_ms()
    engine.redis.hset(WORKERS, hostname, str(Sign(now, tuple(queues))))
    signs: Any = engine.redis.hgetall(WORKERS)
    gone = [name for name, text in signs.items() if Sign.parse(text).at_ms < now - FORGOTTEN_AFTER_MS]
    if gone:
        engine.redis.hdel(WORKERS, *gone)


def _reported(report: Callable[[], object]) -> None:
    try:
        report()
    except RedisError:
        log.warning("broker_unreachable")
