"""Signs of life for probes, and figures for Prometheus."""

from functools import partial
from importlib.metadata import version

import prometheus_client
from flask import Flask, Response
from flask.views import MethodView

from pipelit import clock
from pipelit.api.auth import open_route
from pipelit.api.blueprint import Blueprint
from pipelit.api.errors import problem
from pipelit.api.schemas.health import AliveSchema, ReadySchema
from pipelit.errors import Unavailable
from pipelit.services import health

# What `prometheus_client.generate_latest` writes; a test compares, because the library is not loaded for its name.
TEXT_FORMAT = "text/plain; version=1.0.0; charset=utf-8"

blueprint = Blueprint("health", "", "Signs of life for probes, and figures for Prometheus.")


@blueprint.route("/health/")
class Alive(MethodView):
    @open_route
    @blueprint.response(200, AliveSchema, example={"status": "ok", "version": "0.1.0"})
    def get(self) -> dict[str, str]:
        """Whether this process answers."""
        return {"status": "ok", "version": version("pipelit")}


@blueprint.route("/health/ready/")
class Ready(MethodView):
    @open_route
    @blueprint.response(200, ReadySchema, example={"status": "ready"})
    @blueprint.refusal(503)
    def get(self) -> Response | dict[str, str]:
        """Whether database and broker answer and a worker of each lane was seen in the last 30 s."""
        missing = health.missing(clock.now_ms())
        if missing:
            errors = {name: [reason] for name, reason in missing.items()}
            return problem(503, Unavailable.code, Unavailable.title, " ".join(missing.values()), errors=errors)
        return {"status": "ready"}


@blueprint.route("/metrics")
class Metrics(MethodView):
    @blueprint.text(200, TEXT_FORMAT)
    def get(self) -> Response:
        """Live executions, waiting messages and workers, in Prometheus' text format."""
        return exposition()


def register(app: Flask) -> None:
    """Offer the figures at `/metrics` too, where scrapers look by default; a key is asked for there as well."""
    app.add_url_rule("/metrics", "metrics", exposition)


def exposition() -> Response:
    """The figures of now, gathered for this answer only: they are the installation's, not this process's."""
    registry = prometheus_client.CollectorRegistry()
    figures = health.figures(clock.now_ms())
    gauge = partial(prometheus_client.Gauge, registry=registry)
    live = gauge("pipelit_executions_live", "Executions that have not ended.", ["status"])
    waiting = gauge("pipelit_queue_messages", "Messages that wait for a worker.", ["queue"])
    workers = gauge("pipelit_workers", "Workers seen in the last 30 s.")
    for status, count in figures.executions.items():
        live.labels(status).set(count)
    for queue, count in figures.waiting.items():
        waiting.labels(queue).set(count)
    workers.set(figures.workers)
    return Response(prometheus_client.generate_latest(registry), content_type=TEXT_FORMAT)
