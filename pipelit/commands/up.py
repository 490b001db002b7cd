"""`pipelit up`."""

import click

from pipelit import telemetry
from pipelit.launcher import start
from pipelit.launcher.environment import load_settings


@click.command()
def up() -> None:
    """Start everything: server, workers and what they need, under one supervisor."""
    settings = load_settings()
    telemetry.configure(settings)
    start.up(settings)
