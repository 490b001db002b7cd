"""The OpenAPI document: what the views declare, plus what holds for all of them and would be tedious to repeat.

Every refusal that can reach a client is listed with its operation, because clients are generated from this document
and the test suite holds the server to it.
"""

import copy
import json
import re
from collections.abc import Iterator
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import flask_smorest
from flask import Flask, Response, current_app
from flask_smorest.spec.plugins import FlaskPlugin
from werkzeug.routing import BaseConverter, IntegerConverter

from pipelit.api import etag, refusals
from pipelit.api.auth import open_route
from pipelit.api.blueprint import Blueprint
from pipelit.api.marks import GUARDED, IDEMPOTENT, OPEN, TAGGED, Mark, marks, view_of
from pipelit.api.schemas.base import ProblemSchema
from pipelit.api.schemas.fields import LARGEST
from pipelit.api.self_described import Plugin
from pipelit.services.names import RESERVED_SLUGS

PREFIX = "/api/v1"
DESCRIPTION = """\
Draw workflows, run them, watch them. Send an API key with every request: `Authorization: Bearer <key>`.

Refusals are `application/problem+json` with a `code` for programs and a `detail` for people. Lists take `limit` and
`offset`. Times are UTC. A field that is not in this document is refused with 422. A `POST` that creates or starts
something honours `Idempotency-Key`; single resources carry an `ETag`, and changes honour `If-Match`.
"""

# OpenAPI's own vocabulary: nested JSON, which has no narrower type than this.
Operation = dict[str, Any]

SUCCESS = re.compile(r"2\d\d")
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "Sent again within a day, the same request is answered again and not carried out again.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}
IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "description": "The ETag of the version you mean to change; 412 if it has changed since.",
    "schema": {"type": "string"},
}
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "description": "The ETag of the version you have; 304 if it is the present one.",
    "schema": {"type": "string"},
}
ETAG = {"description": "The version of this resource.", "schema": {"type": "string"}}
REPLAYED = {
    "description": "`true` when this answers an earlier request with the same Idempotency-Key.",
    "schema": {"type": "string"},
}


class IdConverter(IntegerConverter):
    """The number of a row in a path; what no row can have is simply not there."""

    def __init__(self, map: Any) -> None:
        super().__init__(map, min=1, max=LARGEST)


class SlugConverter(BaseConverter):
    """A slug, or an execution's id; the names of routes beside it are none."""

    regex = rf"(?!(?:{'|'.join(sorted(RESERVED_SLUGS))})(?:/|$))[^/]+"


def register(app: Flask, blueprints: tuple[Blueprint, ...]) -> None:
    """Serve the blueprints under one prefix; the document that describes them is put together when somebody asks."""
    app.config.update(API_TITLE="Pipelit", API_VERSION=version("pipelit"), OPENAPI_VERSION="3.1.0")
    app.url_map.converters.update(id=IdConverter, slug=SlugConverter)
    # `Any`: flask-smorest brings no types.
    api: Any = flask_smorest.Api(spec_kwargs={"marshmallow_plugin": Plugin()})
    api.ERROR_SCHEMA = ProblemSchema
    api.DEFAULT_ERROR_RESPONSE_NAME = None
    api.init_app(app)
    for blueprint in blueprints:
        app.extensions["flask-smorest"]["blp_name_to_api"][blueprint.inner.name] = api
        app.register_blueprint(blueprint.inner, url_prefix=PREFIX + blueprint.prefix)
    app.extensions["pipelit.spec"] = cache(partial(_spec, app, api, blueprints))
    app.add_url_rule(f"{PREFIX}/openapi.json", "openapi", _serve)


def _spec(app: Flask, api: Any, blueprints: tuple[Blueprint, ...]) -> Any:
    """What flask-smorest's own registration does at once, for a tenth of a second and 3 MB in every process."""
    for blueprint in blueprints:
        inner = blueprint.inner
        inner.register_views_in_doc(api, app, api.spec, name=inner.name, parameters=None)
        api.spec.tag({"name": inner.name, "description": inner.description})
    return api.spec


def document(app: Flask) -> dict[str, Any]:
    """The document as JSON, the same for the same code."""
    found = copy.deepcopy(app.extensions["pipelit.spec"]().to_dict())
    found["info"]["description"] = DESCRIPTION
    found["servers"] = [{"url": "/"}]
    found["security"] = [{"key": []}]
    components = found.setdefault("components", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    components["responses"] = refusals.components()
    # flask-smorest's own kind of page, which we do not use.
    components["schemas"].pop("PaginationMetadata", None)
    for path, method, operation, view in _operations(app, found):
        _complete(operation, path, method, marks(view))
    found["tags"] = sorted(found.get("tags", ()), key=lambda tag: str(tag["name"]))
    return dict(sorted(found.items()))


def text(app: Flask) -> str:
    """The document as it is written to `docs/openapi.json`."""
    return json.dumps(document(app), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@open_route
@etag.tagged
def _serve() -> Response:
    """Put together on the first request of a process, when every route is there."""
    if "pipelit.openapi" not in current_app.extensions:
        current_app.extensions["pipelit.openapi"] = json.dumps(document(current_app), separators=(",", ":"))
    return Response(current_app.extensions["pipelit.openapi"], content_type="application/json")


def _operations(app: Flask, found: dict[str, Any]) -> Iterator[tuple[str, str, Operation, Any]]:
    endpoints = {FlaskPlugin.flaskpath2openapi(rule.rule): rule.endpoint for rule in app.url_map.iter_rules()}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            endpoint = endpoints[path]
            operation.setdefault("operationId", f"{method}_{_snake(endpoint.rpartition('.')[2])}")
            yield path, method, operation, view_of(app, endpoint, method)


def _complete(operation: Operation, path: str, method: str, found: frozenset[Mark]) -> None:
    """Say in one operation what follows from its marks, its path and its method."""
    parameters = operation.setdefault("parameters", [])
    answers = [response for status, response in operation["responses"].items() if SUCCESS.fullmatch(status)]
    if OPEN in found:
        operation["security"] = []
    if IDEMPOTENT in found:
        parameters.append(IDEMPOTENCY_KEY)
        _add_header(answers, "Idempotent-Replayed", REPLAYED)
    if GUARDED in found:
        parameters.append(IF_MATCH)
    if TAGGED in found:
        parameters.append(IF_NONE_MATCH)
        _add_header(answers, "ETag", ETAG)
        operation["responses"]["304"] = {"description": "You have the present version."}
    for status in refusals.possible(operation, path, method, found):
        operation["responses"][str(status)] = refusals.reference(status)
    operation["responses"] = dict(sorted(operation["responses"].items()))
    if not parameters:
        del operation["parameters"]


def _add_header(answers: list[dict[str, Any]], name: str, header: dict[str, Any]) -> None:
    for answer in answers:
        if "content" in answer:
            answer.setdefault("headers", {})[name] = header


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
