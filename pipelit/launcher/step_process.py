"""Turns a process of a worker's pool into one that runs steps of people's making, and survives them."""

import resource
import sys
from pathlib import Path

from billiard.process import current_process
from flask import Flask

from pipelit import telemetry
from pipelit.config import Settings
from pipelit.engine import processes
from pipelit.engine.board import Board
from pipelit.engine.runtime import EXTENSION, Engine
from pipelit.launcher.printed import Outlet, Printed

MEBIBYTE = 1024 * 1024


def prepare(app: Flask, settings: Settings, board: Board, printed: Printed) -> None:
    """To be called in each process of the pool, once it has been forked."""
    engine: Engine = app.extensions[EXTENSION]
    processes.adopt_orphans()
    brake = engine.worker.brake
    index = current_process().index
    brake.slot = board.slot(index)
    telemetry.configure(settings, printed.lead(index))
    sys.stdout = sys.stderr = Outlet()
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
