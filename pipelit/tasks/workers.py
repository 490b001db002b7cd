"""What a worker does besides its tasks: say that it is there, keep the maintenance tick going."""

from collections.abc import Callable
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
        for every, report in ((SEEN_EVERY_SECONDS, _seen), (MENDED_EVERY_SECONDS, _mended)):
            call = partial(_reported, report, engine, parent.hostname)
            call()
            parent.timer.call_repeatedly(every, call)


celery.steps["consumer"].add(SignsOfLife)


def seen(engine: Engine, hostname: str) -> None:
    """Note that a worker is alive, and mend the tick's chain if it is broken."""
    _seen(engine, hostname)
    _mended(engine, hostname)


def _seen(engine: Engine, hostname: str) -> None:
    now = clock.now_ms()
    engine.redis.hset(WORKERS, hostname, str(now))
    signs: Any = engine.redis.hgetall(WORKERS)
    gone = [name for name, at in signs.items() if int(at) < now - FORGOTTEN_AFTER_MS]
    if gone:
        engine.redis.hdel(WORKERS, *gone)


def _mended(engine: Engine, _hostname: str) -> None:
    engine.tick.ensure()


def _reported(report: Callable[[Engine, str], None], engine: Engine, hostname: str) -> None:
    try:
        report(engine, hostname)
    except RedisError:
        log.warning("broker_unreachable")
