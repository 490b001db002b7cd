"""`pipelit server`; light, because this process becomes gunicorn's first one."""

import os

import click

from pipelit.launcher import checks, web
from pipelit.launcher.environment import load_settings, prepare_home
from pipelit.launcher.guard import end_with_supervisor


@click.command()
def server() -> None:
    """Start the web server alone (API and WebSocket)."""
    settings = load_settings()
    if not end_with_supervisor(os.environ):
        prepare_home(settings)
        checks.port_is_free(settings)
        checks.redis_is_usable(settings)
    web.become()
