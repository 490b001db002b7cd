"""Every failure leaves as problem+json (RFC 9457): ours, the framework's, and those nobody foresaw."""

import json
import uuid
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, g, request
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import OperationalError as DatabaseError
from werkzeug.exceptions import HTTPException

from pipelit.errors import (
    Invalid,
    InvalidGraph,
    PipelitError,
    Problem,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedEncoding,
)

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
SECONDS_UNTIL_RETRY = 5

OUTAGES = (BrokerError, RedisConnectionError, RedisTimeoutError, DatabaseError)
"""What the drivers raise when a server is gone, starting, or busy beyond its time limit."""


def register(app: Flask) -> None:
    """Answer every exception of this application."""
    app.register_error_handler(PipelitError, refused)
    app.register_error_handler(HTTPException, refused_by_framework)
    for outage in OUTAGES:
        app.register_error_handler(outage, unavailable)
    app.register_error_handler(Exception, crashed)


def refused(error: PipelitError) -> Response:
    """A refusal of ours, by its code and status."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Unavailable):
        return crashed(error)
    response = problem(error.status, error.code, error.title, error.detail, **_particulars(error))
    match error:
        case Unauthorized():
            response.headers["WWW-Authenticate"] = f'Bearer realm="pipelit"{g.get("challenge", "")}'
        case UnsupportedEncoding():
            response.headers["Accept-Encoding"] = "identity"
        case TooManyRequests():
            response.headers["RateLimit"] = f'"default";r=0;t={error.after}'
    after = getattr(error, "after", None)
    if after is not None:
        response.headers["Retry-After"] = str(after)
    return response


def refused_by_framework(error: HTTPException) -> Response:
    """Routing and parsing failures of the framework; redirects pass as they are."""
    original = error.get_response()
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return Response(original.get_data(), original.status_code, original.headers)
    name = error.name.lower().replace(" ", "_").replace("-", "_")
    code = {404: "not_found", 413: "too_large", 500: "internal_error"}.get(error.code, name)
    response = problem(error.code, code, error.name, error.description or error.name)
    for header in ("Allow", "Retry-After"):
        if header in original.headers:
            response.headers[header] = original.headers[header]
    return response


def unavailable(error: Exception) -> Response:
    """The database or the broker does not answer: nothing the caller did."""
    # The driver's own words: SQLAlchemy would add the statement with its parameters.
    log.warning("server_unavailable", error=str(getattr(error, "orig", error)))
    response = refused(Unavailable("The database or the broker does not answer right now."))
    response.headers["Retry-After"] = str(SECONDS_UNTIL_RETRY)
    return response


def crashed(error: Exception) -> Response:
    """A failure of ours: the caller gets an id, the log gets everything else."""
    incident = str(uuid.uuid4())
    log.error("request_crashed", incident=incident, method=request.method, path=request.path, exc_info=error)
    title = PipelitError.title
    return problem(
        500, PipelitError.code, title, "Something went wrong here; it was logged.", instance=f"urn:uuid:{incident}"
    )


def problem(status: int, code: str, title: str, detail: str, **particulars: Any) -> Response:
    """A problem document as a response."""
    body = {"type": f"urn:pipelit:problem:{code}", "title": title, "status": status, "code": code, "detail": detail}
    return Response(json.dumps(body | particulars), status, content_type=CONTENT_TYPE)


def _particulars(error: PipelitError) -> dict[str, Any]:
    match error:
        case InvalidGraph():
            return {"errors": _by_place(error.problems), "problems": [describe(found) for found in error.problems]}
        case Invalid(errors=errors) if errors:
            return {"errors": errors}
        case _:
            return {}


def describe(found: Problem) -> dict[str, Any]:
    """A graph's problem as the API shows it."""
    shown = {"node_id": found.node_id, "edge_id": found.edge_id, "code": found.code, "message": found.message}
    return {name: value for name, value in shown.items() if value is not None}


def _by_place(problems: tuple[Problem, ...]) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for found in problems:
        place = f"nodes.{found.node_id}" if found.node_id is not None else f"edges.{found.edge_id}"
        errors.setdefault("graph" if found.node_id is None and found.edge_id is None else place, []).append(
            found.message
        )
    return errors
