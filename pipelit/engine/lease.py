"""Signs of life of the step that this process runs, and what to think of a process that gives none."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType

from redis.exceptions import RedisError

from pipelit import clock
from pipelit.engine.keys import DEADLINES, TaskId
from pipelit.engine.store import Store
from pipelit.errors import StepTimeout

BEAT_SECONDS = 1.0
"""How often a running step is reported alive, and asked about whether it was cancelled."""


def owner() -> str:
    """This process, as claims name it: `host/pid/start`; pids come again, together with the start time they do not."""
    return _named(os.getpid())


@lru_cache(maxsize=1)
def _named(pid: int) -> str:
    return f"{socket.gethostname()}/{pid}/{_started(pid)}"


def is_dead(claimed_by: str) -> bool:
    """Whether the process is known to be gone. False for a process of another machine, whatever became of it."""
    host, pid, started = claimed_by.rsplit("/", 2)
    return host == socket.gethostname() and Path("/proc/self").exists() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process started, in ticks since boot (field 22 of proc(5)'s stat); '' if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


class Lease:
    """One running step's lease; `is_cancelled` turns true when its execution is over."""

    def __init__(self, task: TaskId, seconds: float) -> None:
        self.task = task
        self.seconds = seconds
        self.is_cancelled = False

    def renew(self, store: Store) -> None:
        """Put off the moment at which the step counts as lost, unless somebody has taken it away from us.

        Never brought forward: a step that has gone to wait meanwhile is to be looked at much later than its lease.
        """
        until = clock.now_ms() + round(self.seconds * 1000)
        store.redis.zadd(DEADLINES, {str(self.task): until}, xx=True, gt=True)
        self.is_cancelled = not store.is_live(self.task.execution_id)


class Heart:
    """Renews the leases of this process from a thread of its own, started with the first step."""

    def __init__(self, store: Store, *, every: float = BEAT_SECONDS) -> None:
        self.store = store
        self.every = every
        self._running: set[Lease] = set()
        self._lock = threading.Lock()
        self._pid = 0

    @contextmanager
    def beating(self, lease: Lease) -> Iterator[Lease]:
        """Keep the lease alive for as long as the block runs."""
        self._ensure_thread()
        with self._lock:
            self._running.add(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._running.discard(lease)

    def _ensure_thread(self) -> None:
        # Threads do not survive a fork, so the process is remembered and not the thread.
        if self._pid != os.getpid():
            self._pid = os.getpid()
            threading.Thread(target=self._beat, name="leases", daemon=True).start()

    def _beat(self) -> None:
        pause = threading.Event()
        while not pause.wait(self.every):
            with self._lock:
                running = list(self._running)
            for lease in running:
                try:
                    lease.renew(self.store)
                except RedisError:
                    # The next beat tries again; if the outage outlasts the lease, the step will run once more.
                    continue


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `StepTimeout` in the block when it runs longer. Works by SIGALRM, so only in a process's main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise StepTimeout(f"The step ran longer than its limit of {seconds:g} s.")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
