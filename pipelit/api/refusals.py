"""Which refusals an operation can answer with, as far as its shape tells; a view declares the unusual ones itself."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from pipelit.api.errors import CONTENT_TYPE
from pipelit.api.marks import GUARDED, IDEMPOTENT, OPEN, Mark
from pipelit.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PipelitError,
    StaleVersion,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

REFUSALS: tuple[type[PipelitError], ...] = (
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    StaleVersion,
    TooLarge,
    Invalid,
    TooManyRequests,
    Unavailable,
)
NAMES = {refusal.status: refusal.__name__ for refusal in REFUSALS} | {
    int(HTTPStatus.METHOD_NOT_ALLOWED): "MethodNotAllowed",
    int(HTTPStatus.UNSUPPORTED_MEDIA_TYPE): "UnsupportedMediaType",
}
TITLES = {refusal.status: refusal.title for refusal in REFUSALS}
WRITES = ("post", "put", "patch", "delete")


def components() -> dict[str, Any]:
    """The refusals as reusable responses."""
    return {name: _response(status) for status, name in sorted(NAMES.items())}


def reference(status: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{NAMES[status]}"}


def possible(operation: dict[str, Any], path: str, method: str, marks: frozenset[Mark]) -> Iterator[int]:
    """The statuses of an operation's refusals."""
    yield 503
    if OPEN not in marks:
        yield 401
        yield 403
    if "{" in path:
        yield 404
    if method in WRITES:
        yield 409
        yield 429
    if GUARDED in marks:
        yield 412
    if "requestBody" in operation:
        yield 413
        yield 415
    if "requestBody" in operation or IDEMPOTENT in marks or _reads_query(operation):
        yield 422
    # What a view declared by number only (`blueprint.refusal`) gets the same description as everywhere.
    yield from (int(status) for status in list(operation["responses"]) if int(status) in NAMES)


def _reads_query(operation: dict[str, Any]) -> bool:
    return any(parameter.get("in") == "query" for parameter in operation.get("parameters", ()))


def _response(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": TITLES.get(status, HTTPStatus(status).phrase) + ".",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status == Unauthorized.status:
        response["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    if status == TooManyRequests.status:
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "string"}}
        }
    return response
