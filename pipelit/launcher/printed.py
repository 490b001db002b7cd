"""What the steps of a pool print, and the programs that they start: passed on, but only so much of each step.

The processes of the pool write into pipes that the process reads which keeps the pool. So it does not matter by which
road something is printed, whether the node holds the interpreter, or whether its process dies with its last words.
"""

import io
import os
import select
import threading
from contextlib import suppress
from typing import TextIO

from pipelit.engine.board import Board

PRINTED = 64 * 1024
"""Bytes that one step may print: enough for whoever looks for a mistake, too little to fill a disk."""

DROPPED = f"\n(more than {PRINTED} bytes; what else the step prints is dropped)\n".encode()
PIPE_BYTES = 64 * 1024
OUT, ERROR = 1, 2


class Printed:
    """A pipe for each process of a pool. To be made before the pool is, whose processes inherit it."""

    def __init__(self, board: Board, processes: int, target: int = ERROR) -> None:
        self._board = board
        self._target = target
        self._pipes = [os.pipe() for _ in range(processes)]
        self._left = [PRINTED] * processes
        self._steps: list[object] = [None] * processes

    def lead(self, index: int) -> TextIO:
        """Lead all that this process prints into its pipe; returns where its own log lines go, as they did before."""
        ours = os.fdopen(os.dup(ERROR), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        mine = index % len(self._pipes)
        for descriptor in (OUT, ERROR):
            os.dup2(self._pipes[mine][1], descriptor)
        for ends in self._pipes:
            for end in ends:
                os.close(end)
        return ours

    def start(self) -> None:
        """Pass on what comes, from a thread of its own, for as long as this process lives."""
        threading.Thread(target=self._watch, name="printed", daemon=True).start()

    def pass_on(self, index: int, text: bytes) -> None:
        """Write as much of what a process has printed as its present step may still print."""
        step = self._board.read(index)
        if step is not None and step != self._steps[index]:
            self._steps[index], self._left[index] = step, PRINTED
        left = self._left[index]
        if left <= 0:
            return
        self._left[index] = left - len(text)
        with suppress(OSError):  # Nobody reads it: that is no reason to let steps wait until somebody does.
            _write(self._target, text[:left] + (DROPPED if len(text) >= left else b""))

    def _watch(self) -> None:
        numbers = {reading: index for index, (reading, _) in enumerate(self._pipes)}
        waiting = select.poll()
        for reading in numbers:
            waiting.register(reading, select.POLLIN)
        while True:
            for reading, _ in waiting.poll():
                self.pass_on(numbers[reading], os.read(reading, PIPE_BYTES))


class Outlet(io.TextIOBase):
    """Python's way into the pipe, without the buffer in which last words would be lost."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        _write(OUT, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return OUT


def _write(descriptor: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]
