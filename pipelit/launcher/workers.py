"""Turns a process into a Celery worker of one lane."""

import os
import socket
import tempfile
from multiprocessing.process import current_process

from celery.signals import setup_logging, worker_process_init, worker_ready
from flask import Flask

from celeryconfig import Lane
from pipelit import tasks, telemetry
from pipelit.assembly import assemble
from pipelit.config import Settings
from pipelit.engine.board import Board
from pipelit.engine.overseer import Overseer
from pipelit.engine.runtime import EXTENSION, Engine
from pipelit.extensions import db
from pipelit.launcher import step_process
from pipelit.launcher.printed import Printed
from pipelit.launcher.watchdog import PATIENCE, Watchdog
from pipelit.tasks import base


def run(settings: Settings, lane: Lane, *, patience: float = PATIENCE, overseer: type[Overseer] = Overseer) -> int:
    """Serve the lane until told to stop, and return the exit code.

    `patience` is how long a worker may be deaf before it ends itself, `overseer` who looks after its processes.
    """
    app = assemble(settings)
    base.use(app)
    watchdog = Watchdog(settings, lane, patience=patience)
    engine: Engine = app.extensions[EXTENSION]
    # Made before the pool is, whose processes inherit it.
    board = Board()
    printed = Printed(board, lane.size(settings))
    _leave_no_folder()

    def prepare_process(**_: object) -> None:
        _forget_connections(app)
        step_process.prepare(app, settings, board, printed)

    def log_our_way(**_: object) -> None:
        telemetry.configure(settings)

    def watch(**_: object) -> None:
        watchdog.start()
        if lane.pool == "prefork":
            overseer(engine.worker, board, app.app_context).start()
            printed.start()

    setup_logging.connect(log_our_way)
    worker_process_init.connect(prepare_process)
    worker_ready.connect(watch)
    # Made directly: Celery's own command line would load every command it has, 20 MB of them, into every process.
    worker = tasks.celery.Worker(
        pool_cls=lane.pool,
        concurrency=lane.size(settings),
        queues=list(lane.queues),
        # The pid makes the name unique when two installations share a machine and a broker.
        hostname=f"{lane.name}.{os.getpid()}@{socket.gethostname()}",
        loglevel=settings.log_level.upper(),
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _leave_no_folder() -> None:
    """What the pool shares lies in a file that is removed as soon as it is open; this says in which folder.

    Otherwise it is one that multiprocessing makes for it, and which stays when this process is killed.
    """
    vars(current_process())["_config"]["tempdir"] = tempfile.gettempdir()


def _forget_connections(app: Flask) -> None:
    """A process of the pool must not speak over the database connections it was forked with."""
    with app.app_context():
        db.engine.dispose(close=False)
