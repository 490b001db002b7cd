"""Makes the application: one function, no global, nothing at import."""

from flask import Flask

from pipelit import api
from pipelit.assembly import assemble
from pipelit.config import Settings


def create_app(settings: Settings) -> Flask:
    """The Flask application for these settings, with its routes."""
    app = assemble(settings)
    api.register(app)
    return app
