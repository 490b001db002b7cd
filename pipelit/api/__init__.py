"""HTTP in: parse, call one service, serialise. No logic."""

from flask import Flask

from pipelit.api import (
    accounts,
    approvals,
    auth,
    bodies,
    docs,
    edges,
    errors,
    executions,
    graph,
    headers,
    health,
    live,
    nodes,
    openapi,
    resume,
    users,
    webhooks,
    workflows,
)

BLUEPRINTS = (
    accounts.blueprint,
    users.blueprint,
    workflows.blueprint,
    nodes.blueprint,
    edges.blueprint,
    graph.blueprint,
    executions.starting,
    executions.blueprint,
    approvals.blueprint,
    resume.blueprint,
    webhooks.blueprint,
    health.blueprint,
)


def register(app: Flask) -> None:
    """Give an application its routes, and everything that holds for all of them."""
    app.url_map.strict_slashes = False
    headers.register(app)
    auth.register(app)
    bodies.register(app)
    openapi.register(app, BLUEPRINTS)
    health.register(app)
    app.register_blueprint(docs.blueprint)
    live.register(app)
    errors.register(app)
