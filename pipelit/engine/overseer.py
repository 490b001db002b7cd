"""Watches the processes of a pool from outside, and kills the one whose node does not stop when it should.

It runs in the process that keeps the pool, which no node can hold up: one that computes in C and holds the interpreter,
or one that catches whatever is raised in it, still ends in time and leaves nothing running behind.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import structlog
from redis.exceptions import RedisError

from pipelit import clock
from pipelit.engine import brake, processes
from pipelit.engine.board import Board, Running
from pipelit.engine.core.events import Failure, StepFailed
from pipelit.engine.keys import DEADLINES, TaskId
from pipelit.engine.timing import report_of_lost
from pipelit.engine.worker import Worker

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.25
YOUNG_SECONDS = 0.5
"""Nodes that have only just begun are not asked about: most have ended before."""
GRACE_SECONDS = 1.0
"""How long a node may take to stop by itself."""


class Overseer:
    """Looks at the board, asks whether what runs is still waited for, and sees to it that the rest ends."""

    def __init__(self, worker: Worker, board: Board, within: Callable[[], AbstractContextManager[object]]) -> None:
        self.worker = worker
        self.within = within
        self.board = board
        self._unwanted: dict[tuple[int, float], float] = {}

    def start(self) -> None:
        """Look again and again, from a thread of its own."""
        threading.Thread(target=self._watch, name="overseer", daemon=True).start()

    def look(self, now: float) -> int:
        """Deal with everything that should have stopped by now (a time of the monotonic clock); how much that was."""
        running = {index: found for index, found in self.board.running() if now - found.started > YOUNG_SECONDS}
        awaited = dict(zip(running, self._ask(list(running.values())), strict=True))
        before, self._unwanted = self._unwanted, {}
        ended = 0
        for index, found in running.items():
            if awaited[index] and now - found.started >= found.limit + GRACE_SECONDS:
                ended += self._kill(index, found, "timeout")
            elif not awaited[index]:
                since = self._unwanted[found.pid, found.started] = before.get((found.pid, found.started), now)
                ended += now - since >= GRACE_SECONDS and self._kill(index, found, "cancelled")
        return ended

    def _ask(self, running: Sequence[Running]) -> list[bool]:
        """Whether these attempts are still waited for; the leases of those that are get renewed, for they live."""
        if not running:
            return []
        tasks = [TaskId.parse(found.task) for found in running]
        awaited = self.worker.coordinator.store.awaited(tasks)
        until = clock.now_ms() + round(self.worker.limits.lease * 1000)
        alive = {str(task): until for task, is_awaited in zip(tasks, awaited, strict=True) if is_awaited}
        if alive:
            self.worker.coordinator.store.redis.zadd(DEADLINES, alive, xx=True, gt=True)
        return awaited

    def _kill(self, index: int, found: Running, reason: str) -> bool:
        """Kill a process with all that its node has started; False if the node has ended in the last moment."""
        if not processes.is_child(found.pid):
            return False
        # While it stands still it cannot begin another step, and the right one is hit.
        os.kill(found.pid, signal.SIGSTOP)
        try:
            if self.board.read(index) != found:
                return False
            if reason == "timeout":
                self._report_timeout(found)
            log.warning("step_killed", task=found.task, pid=found.pid, reason=reason)
            processes.end_descendants(found.pid)
            self.board.slot(index).clear()
            os.kill(found.pid, signal.SIGKILL)
            return True
        finally:
            os.kill(found.pid, signal.SIGCONT)

    def _report_timeout(self, found: Running) -> None:
        """Say what happened before the process dies, so that its end is not taken for an accident."""
        task = TaskId.parse(found.task)
        error = brake.timeout(found.limit)
        failure = Failure(error.code, f"{error.detail} It did not stop and was killed.", error.retryable)
        claim = self.worker.coordinator.store.owner(task.execution_id, task.step)
        event = StepFailed(task.step, task.attempt, failure)
        self.worker.coordinator.tell(task.execution_id, event, report_of_lost(claim, clock.precise_ms()))

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY_SECONDS):
            try:
                with self.within():
                    self.look(time.monotonic())
            except RedisError:
                continue  # Without the broker nobody can say what is waited for; the next look may be luckier.
            except Exception:  # One step in trouble must not keep the others from being watched.
                log.exception("oversight_failed")
