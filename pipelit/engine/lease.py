"""Signs of life of the step that this process runs, and what to think of a process that gives none."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from redis.exceptions import RedisError

from pipelit import clock
from pipelit.engine import processes
from pipelit.engine.brake import Brake
from pipelit.engine.keys import DEADLINES, ExecutionKeys, TaskId, claim_field, running_key
from pipelit.engine.store import Standing, Store

BEAT_SECONDS = 1.0
"""How often a running step is reported alive, and asked about whether it was cancelled."""


def owner() -> str:
    """This process, as claims name it: `machine/keeper.pid/start`, the keeper being the process that has started it.

    A pid comes again; with the start time beside it, it does not.
    """
    return _named(os.getpid())


@lru_cache(maxsize=1)
def _named(pid: int) -> str:
    return f"{process_of(pid, keeper=os.getppid())}/{processes.started(pid)}"


def process_of(pid: int, *, keeper: int) -> str:
    """A process without its start time, as its keeper knows it after its end."""
    return f"{machine()}/{keeper}.{pid}"


@lru_cache(maxsize=1)
def machine() -> str:
    """Where pids mean the same as here: this host since it booted, seen from this container.

    The name alone would not do. Machines made from one image share it, and so may a host and its containers, and a
    process that lives there must not be taken for one that is dead here.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot = space = ""
    return f"{socket.gethostname()}/{boot}/{space}"


def is_dead(claimed_by: str) -> bool:
    """Whether the process is known to be gone. False for a process of another machine, whatever became of it."""
    where, pids, started = claimed_by.rsplit("/", 2)
    pid = int(pids.rpartition(".")[2])
    return where == machine() and processes.PROC.is_dir() and processes.running_since(pid) != started


def is_forsaken(claimed_by: str) -> bool:
    """Whether the process is known to be gone, and its keeper with it, who would hand its message back and say why."""
    keeper = claimed_by.rsplit("/", 2)[1].rpartition(".")[0]
    return bool(keeper) and is_dead(claimed_by) and not processes.running_since(int(keeper))


class Lease:
    """One running step's lease; `is_cancelled` turns true when nobody waits for the attempt any more."""

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
        (standing,) = store.standings([self.task])
        if standing is Standing.UNKNOWN:
            self._announce(store)
        self.is_cancelled = standing is Standing.OVER

    def _announce(self, store: Store) -> None:
        """Say that the attempt is being run, for whoever restores what the server has lost: it shall not run twice."""
        claim = f"{self.task.attempt} {owner()} announced"
        store.redis.set(running_key(self.task), claim, px=round(self.seconds * 1000))
        meta = ExecutionKeys.of(self.task.execution_id).meta
        if store.redis.hexists(meta, "version"):
            store.redis.hsetnx(meta, claim_field(self.task.step), claim)


class Heart:
    """Renews the leases of this process from a thread of its own, and stops what nobody waits for any more."""

    def __init__(self, store: Store, brake: Brake, *, every: float = BEAT_SECONDS) -> None:
        self.store = store
        self.brake = brake
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
                if lease.is_cancelled:
                    self.brake.stop(lease)
