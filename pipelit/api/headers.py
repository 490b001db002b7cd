"""What every answer carries: an id, the usual protections, and leave for the web pages that were named.

And what headers of a request are believed about the way it came.
"""

import re
import uuid

import structlog
from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from pipelit.api import etag
from pipelit.extensions import settings

REQUEST_ID = "X-Request-Id"
ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
EXPOSED = "ETag, Idempotent-Replayed, Location, RateLimit, Retry-After, X-Request-Id"
ALLOWED = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id"


def register(app: Flask) -> None:
    """Decorate every answer of this application, and believe the proxies in front of it."""
    _believe_proxies(app)
    app.before_request(_name_request)
    app.after_request(etag.finish)
    app.after_request(_protect)
    app.after_request(_share)
    app.teardown_request(_forget_request)


def _believe_proxies(app: Flask) -> None:
    """Take the caller's address, scheme and host from the last proxies' headers; what precedes those is hearsay."""
    count = app.extensions["pipelit.settings"].trusted_proxies
    if count:
        fixed = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)
        app.wsgi_app = fixed  # type: ignore[method-assign]  # how Flask wants middleware to be added


def _name_request() -> None:
    """The caller's id if it is a sane one, so that a request can be followed from system to system."""
    given = request.headers.get(REQUEST_ID, "")
    g.request_id = given if ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _forget_request(_error: BaseException | None) -> None:
    structlog.contextvars.unbind_contextvars("request_id")


def _protect(response: Response) -> Response:
    """A view that knows better has set the header already."""
    if "request_id" in g:
        response.headers.setdefault(REQUEST_ID, g.request_id)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _share(response: Response) -> Response:
    """CORS for the listed origins only, and never with credentials: the key travels in a header the page must know."""
    allowed = settings().cors_origins
    if not allowed:
        return response
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in allowed:
        return response
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = ALLOWED
        response.headers["Access-Control-Max-Age"] = "600"
    return response
