"""What a worker does besides its tasks: say that it is there, keep the maintenance tick going."""

import socket
from typing import Any

import structlog
from celery.signals import worker_ready
from flask import Flask
from redis.exceptions import RedisError

from pipelit import clock
from pipelit.engine.keys import WORKERS
from pipelit.engine.runtime import EXTENSION, Engine
from pipelit.extensions import celery
from pipelit.tasks.base import CONF_KEY

log = structlog.get_logger(__name__)

SEEN_EVERY_SECONDS = 5.0
FORGOTTEN_AFTER_MS = 300_000


@worker_ready.connect
def _start_timer(sender: Any, **_kwargs: Any) -> None:
    """Have the consumer's timer call us: it runs whatever the pool is busy with."""
    app: Flask = celery.conf[CONF_KEY]
    engine: Engine = app.extensions[EXTENSION]

    def report() -> None:
        try:
            seen(engine, sender.hostname or socket.gethostname())
        except RedisError:
            log.warning("broker_unreachable")

    report()
    sender.timer.call_repeatedly(SEEN_EVERY_SECONDS, report)


def seen(engine: Engine, hostname: str) -> None:
    """Note that a worker is alive, and mend the tick's chain if it is broken."""
    now = clock.now_ms()
    engine.redis.hset(WORKERS, hostname, str(now))
    signs: Any = engine.redis.hgetall(WORKERS)
    gone = [name for name, at in signs.items() if int(at) < now - FORGOTTEN_AFTER_MS]
    if gone:
        engine.redis.hdel(WORKERS, *gone)
    engine.tick.ensure()
