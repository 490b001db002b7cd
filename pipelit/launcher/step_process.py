"""Turns a process of a worker's pool into one that runs steps of people's making, and survives them."""

import io
import resource
import sys
from pathlib import Path
from typing import TextIO

from billiard.process import current_process
from flask import Flask

from pipelit.config import Settings
from pipelit.engine import processes
from pipelit.engine.board import Board
from pipelit.engine.runtime import EXTENSION, Engine

MEBIBYTE = 1024 * 1024
PRINTED = 64 * 1024
"""Characters that one step may print: enough for whoever looks for a mistake, too little to fill a disk."""


class Capped(io.TextIOBase):
    """Passes on what is printed, but only so much of each step."""

    def __init__(self, target: TextIO) -> None:
        super().__init__()
        self._target = target
        self._left = PRINTED

    def renew(self) -> None:
        """Another step begins."""
        self._left = PRINTED

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._left > 0:
            self._target.write(text[: self._left])
            self._left -= len(text)
            if self._left <= 0:
                self._target.write(f"\n(more than {PRINTED} characters; what else the step prints is dropped)\n")
        return len(text)

    def flush(self) -> None:
        self._target.flush()

    def fileno(self) -> int:
        return self._target.fileno()


def prepare(app: Flask, settings: Settings, board: Board) -> None:
    """To be called in each process of the pool, once it has been forked."""
    engine: Engine = app.extensions[EXTENSION]
    processes.adopt_orphans()
    brake = engine.worker.brake
    brake.slot = board.slot(current_process().index)
    printed = Capped(sys.stderr)
    sys.stdout = printed
    brake.before.append(printed.renew)
    if settings.step_memory_mb:
        limit_memory(settings.step_memory_mb)


def limit_memory(mebibytes: int) -> None:
    """Have this process raise `MemoryError` when it wants more, instead of making the machine run out of it.

    What it inherited does not count: a worker that knows many node types can run as much as one that knows few.
    """
    inherited = 0
    status = Path("/proc/self/status")
    if status.exists():
        inherited = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData:"))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = mebibytes * MEBIBYTE + inherited * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
