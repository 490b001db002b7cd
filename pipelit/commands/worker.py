"""`pipelit worker`."""

import os
import sys

import click

import celeryconfig
from pipelit import telemetry
from pipelit.launcher import checks, workers
from pipelit.launcher.environment import load_settings
from pipelit.launcher.guard import end_with_supervisor, kill_when_orphaned


@click.command()
@click.argument(
    "lane", type=click.Choice([lane.name for lane in (*celeryconfig.LANES, celeryconfig.ALL)]), default="all"
)
def worker(lane: str) -> None:
    """Start one worker: for the steps of workflows, for the rest of the system, or for everything."""
    settings = load_settings()
    if end_with_supervisor(os.environ):
        kill_when_orphaned(celeryconfig.worker_soft_shutdown_timeout + 5)
    else:
        checks.redis_is_usable(settings)
    telemetry.configure(settings)
    sys.exit(workers.run(settings, celeryconfig.lane(lane)))
