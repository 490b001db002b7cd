"""What the processes of a pool are at, in memory that they share with the process which keeps the pool.

A node that computes in C holds the interpreter, and nothing else in its process gets a word in. So each process notes
here which attempt its node works on, since when and for how long it may; whoever watches needs nothing else from it.
"""

import mmap
import os
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

SLOTS = 256
"""As many as `PIPELIT_WORKERS` may ask for."""

SIZE = 2048
HEAD = struct.Struct("=ddqq")
LONGEST = SIZE - HEAD.size


class Running(NamedTuple):
    """A node that runs: in which process, on which attempt (the id of its task), since when and for how long it may.

    `started` is a time of the monotonic clock, which all processes of a machine read alike.
    """

    pid: int
    task: str
    started: float
    limit: float


class Slot:
    """Where one process says what its node is at."""

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self.clear()

    def note(self, task: str, limit: float) -> None:
        """A node begins. The time is written last: what has none is not read."""
        text = task.encode()[:LONGEST]
        end = self._offset + HEAD.size + len(text)
        self._memory[self._offset + HEAD.size : end] = text
        HEAD.pack_into(self._memory, self._offset, 0.0, limit, os.getpid(), len(text))
        struct.pack_into("=d", self._memory, self._offset, time.monotonic())

    def clear(self) -> None:
        """The node has ended."""
        struct.pack_into("=d", self._memory, self._offset, 0.0)


class Board:
    """The slots of a pool. To be made before the pool's processes are, which inherit it."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._memory = mmap.mmap(-1, slots * SIZE)
        self.slots = slots

    def slot(self, index: int) -> Slot:
        """The slot of a process; the one that takes its place in the pool takes its slot over."""
        return Slot(self._memory, index % self.slots * SIZE)

    def running(self) -> Iterator[tuple[int, Running]]:
        """What runs at this moment, by the number of the slot."""
        for index in range(self.slots):
            found = self.read(index)
            if found is not None:
                yield index, found

    def read(self, index: int) -> Running | None:
        """What a slot says; None if no node runs there, or one has begun or ended while we read."""
        offset = index * SIZE
        started, limit, pid, length = HEAD.unpack_from(self._memory, offset)
        text = self._memory[offset + HEAD.size : offset + HEAD.size + min(length, LONGEST)]
        (again,) = struct.unpack_from("=d", self._memory, offset)
        if not started or again != started:
            return None
        return Running(pid, text.decode(errors="replace"), started, limit)
