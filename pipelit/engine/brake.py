"""Stops the node that a process runs, when it takes too long or its execution is over: by raising in it.

A signal interrupts Python code, sleeping and waiting; its handler, which is installed once, decides by what is under
way at that moment. Signals reach the main thread of a process only, so in other threads a node is not stopped. A node
that does not listen is killed by the `Overseer`.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol, TypeVar

from pipelit.engine import processes
from pipelit.engine.board import Slot
from pipelit.engine.keys import TaskId
from pipelit.errors import StepCancelled, StepError, StepTimeout

T = TypeVar("T")

INSIST_SECONDS = 0.25
"""A signal that came at a moment when it could not be heard comes again after this long."""


class Stoppable(Protocol):
    """A running attempt that may be called off."""

    @property
    def task(self) -> TaskId: ...

    @property
    def is_cancelled(self) -> bool: ...


class Brake:
    """The one node that the main thread of this process runs, and how it is stopped."""

    def __init__(self) -> None:
        self.slot: Slot | None = None
        self.before: list[Callable[[], None]] = []
        self._running: Stoppable | None = None
        self._until = 0.0
        self._limit = 0.0
        self._has_stopped = False

    def run(self, call: Callable[[], T], what: Stoppable, *, limit: float) -> T:
        """What `call` returns. `StepTimeout` is raised in it after `limit` seconds, `StepCancelled` by `stop`."""
        if threading.current_thread() is not threading.main_thread():
            return call()
        self._install()
        pid, slot, began = os.getpid(), self.slot, time.monotonic()
        self._has_stopped, self._limit, self._until = False, limit, began + limit
        # What the handler raises may come up between any two instructions. It does so once, and never behind the inner
        # `finally`; so the outer one is complete at any rate.
        try:
            for prepare in self.before:
                prepare()
            if slot is not None:
                slot.note(str(what.task), limit)
            signal.setitimer(signal.ITIMER_REAL, limit, INSIST_SECONDS)
            try:
                self._running = what
                return call()
            finally:
                self._running = None
        finally:
            if os.getpid() != pid:
                # A copy of this process, made by the node: it must not go on as if it were the worker.
                os._exit(1)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if slot is not None:
                slot.clear()
            if self._has_stopped:
                processes.reap(processes.end_descendants(pid, processes.ticks_ago(time.monotonic() - began)))

    def stop(self, what: Stoppable) -> None:
        """Have the handler look at it, if it still runs. To be called from another thread of the process, and again.

        A signal that comes in the moment before the node begins to sleep, or to wait, goes unheard.
        """
        if self._running is what:
            main = threading.main_thread().ident
            assert main is not None, "the main thread has begun"
            signal.pthread_kill(main, signal.SIGALRM)

    def _install(self) -> None:
        if signal.getsignal(signal.SIGALRM) != self._on_signal:
            signal.signal(signal.SIGALRM, self._on_signal)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        running = self._running
        reason = self._reason(running) if running is not None else None
        if reason is not None:
            self._running, self._has_stopped = None, True
            raise reason

    def _reason(self, running: Stoppable) -> StepError | None:
        if running.is_cancelled:
            return StepCancelled("The execution was stopped while the step ran.")
        if time.monotonic() >= self._until:
            return timeout(self._limit)
        return None


def timeout(limit: float) -> StepTimeout:
    """That a node ran longer than it may."""
    return StepTimeout(f"The step ran longer than its limit of {limit:g} s.")
