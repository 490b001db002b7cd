"""Turns a process into a Celery worker of one lane."""

import os

from celery.signals import setup_logging, worker_process_init, worker_ready
from flask import Flask

from celeryconfig import Lane
from pipelit import tasks, telemetry
from pipelit.app import create_app
from pipelit.config import Settings
from pipelit.extensions import db
from pipelit.launcher.watchdog import PATIENCE, Watchdog


def run(settings: Settings, lane: Lane, *, patience: float = PATIENCE) -> None:
    """Serve the lane until told to stop; `patience` is how long a worker may be deaf before it ends itself."""
    app = create_app(settings)
    watchdog = Watchdog(settings, lane, patience=patience)

    def forget_connections(**_: object) -> None:
        _forget_connections(app)

    def log_our_way(**_: object) -> None:
        telemetry.configure(settings)

    def watch(**_: object) -> None:
        watchdog.start()

    setup_logging.connect(log_our_way)
    worker_process_init.connect(forget_connections)
    worker_ready.connect(watch)
    tasks.celery.worker_main(arguments(settings, lane))


def arguments(settings: Settings, lane: Lane) -> list[str]:
    """Celery's command line for the lane."""
    return [
        "worker",
        *("--pool", lane.pool),
        *("--concurrency", str(lane.size(settings))),
        *("--queues", ",".join(lane.queues)),
        # The pid makes the name unique when two installations share a machine and a broker.
        *("--hostname", f"{lane.name}.{os.getpid()}@%h"),
        *("--loglevel", settings.log_level.upper()),
        "--without-gossip",
        "--without-mingle",
    ]


def _forget_connections(app: Flask) -> None:
    """A process of the pool must not speak over the connections it was forked with."""
    with app.app_context():
        db.engine.dispose(close=False)
