"""`pipelit server`."""

import click

from pipelit.launcher import checks, web
from pipelit.launcher.environment import load_settings, prepare_home


@click.command()
def server() -> None:
    """Start the web server alone (API and WebSocket)."""
    settings = load_settings()
    prepare_home(settings)
    checks.port_is_free(settings)
    checks.redis_is_usable(settings)
    web.become()
