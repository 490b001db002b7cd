"""HTTP in: parse, call one service, serialise. No logic."""

from flask import Flask

from pipelit.api import accounts, auth, docs, errors, headers, health, limits, openapi, users

BLUEPRINTS = (
    accounts.blueprint,
    users.blueprint,
    health.blueprint,
)


def register(app: Flask) -> None:
    """Give an application its routes, and everything that holds for all of them."""
    app.url_map.strict_slashes = False
    headers.register(app)
    auth.register(app)
    limits.register(app)
    openapi.register(app, BLUEPRINTS)
    health.register(app)
    app.register_blueprint(docs.blueprint)
    errors.register(app)
