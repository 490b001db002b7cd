"""The heartbeat of maintenance: a Celery countdown task that sends itself again, under a deterministic id.

The number of the tick that is due stands in Redis. A tick that is not due does nothing, so that duplicates from the
broker die out; when the number has expired, the chain is broken and any worker begins a new one.
"""

from importlib.resources import files
from typing import Any

from redis import Redis

from pipelit.engine.dispatch import MAINTENANCE, Dispatcher

TICK = "pipelit.maintenance.tick"
KEY = "pipelit:tick"
EVERY_SECONDS = 1.0
BROKEN_AFTER_MS = 4_000


class Tick:
    """Moves the chain on, or mends it."""

    def __init__(self, redis: Redis, dispatcher: Dispatcher) -> None:
        self.redis = redis
        self.dispatcher = dispatcher
        self._script = redis.register_script((files("pipelit.engine.scripts") / "tick.lua").read_text())

    def advance(self, number: int) -> bool:
        """Send the next tick. False if `number` is not the one that is due: then there is nothing to do either."""
        return self._move(str(number), number + 1, EVERY_SECONDS)

    def ensure(self) -> bool:
        """Begin the chain if there is none. True if there was none."""
        current: Any = self.redis.get(KEY)
        return current is None and self._move("", 1, 0.0)

    def _move(self, due: str, following: int, delay: float) -> bool:
        message = self.dispatcher.message(
            TICK, [following], task_id=f"tick-{following}", queue=MAINTENANCE, countdown=delay
        )
        return bool(self._script(keys=[KEY, message.key], args=[due, BROKEN_AFTER_MS, message.payload]))
