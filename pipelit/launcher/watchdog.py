"""Ends a worker that has gone deaf: connected to the broker, idle, and not taking the messages that wait for it.

Workers have been seen like that after a reconnect. The supervisor starts a new one, which listens.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass

import structlog
from celery.worker import state
from redis import Redis
from redis.exceptions import RedisError

import celeryconfig
from celeryconfig import Lane
from pipelit.config import Settings

PATIENCE = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Observation:
    """What can be seen of a worker from inside: messages waiting, taken so far, and in its hands."""

    waiting: int
    taken: int
    running: int
    held: int

    def is_idle_beside_work(self, before: "Observation") -> bool:
        """Whether messages waited the whole time and this worker, with nothing to do, took none."""
        is_full = self.held >= celeryconfig.worker_eta_task_limit
        return (
            self.waiting > 0 and before.waiting > 0 and self.running == 0 and self.taken == before.taken and not is_full
        )


class Watchdog(threading.Thread):
    """Looks every few seconds; after `patience` seconds of deafness the process is killed, with its pool."""

    def __init__(self, settings: Settings, lane: Lane, *, patience: float) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._redis = Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5)
        self._lane = lane
        self._patience = patience

    def run(self) -> None:
        before: Observation | None = None
        deaf_since: float | None = None
        while True:
            time.sleep(self._patience / 10)
            now = self._observe()
            if now is None or before is None or not now.is_idle_beside_work(before):
                before, deaf_since = now, None
                continue
            deaf_since = deaf_since or time.monotonic()
            if time.monotonic() - deaf_since >= self._patience:
                log.error("worker_deaf", lane=self._lane.name, waiting=now.waiting)
                # It holds no running task, so that nothing is lost; a polite signal would wait for the consumer.
                os.kill(os.getpid(), signal.SIGKILL)

    def _observe(self) -> Observation | None:
        """None while the broker is not there: that is no deafness."""
        try:
            waiting = sum(int(self._redis.llen(queue)) for queue in self._lane.queues)
        except RedisError:
            return None
        return Observation(
            waiting, sum(state.total_count.values()), len(state.active_requests), len(state.reserved_requests)
        )
