"""What the subcommands on data share: the application of this environment, ready to use."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from pipelit import telemetry
from pipelit.assembly import assemble
from pipelit.launcher.environment import load_settings


@contextmanager
def application() -> Iterator[Flask]:
    """The application inside its context, with this environment's settings."""
    settings = load_settings()
    telemetry.configure(settings)
    app = assemble(settings)
    with app.app_context():
        yield app
