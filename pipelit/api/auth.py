"""Who calls: one extractor of the key, asked before every view that is not marked open."""

from flask import Flask, g, request
from werkzeug.exceptions import HTTPException

from pipelit import clock
from pipelit.api.marks import ADMIN, OPEN, mark, marks, view_of
from pipelit.errors import Forbidden, NotFound, Unauthorized
from pipelit.models import UserProfile
from pipelit.services import tokens

open_route = mark(OPEN)
"""Anybody may call this view."""

admin_route = mark(ADMIN)
"""Only administrators may call this view."""


def register(app: Flask) -> None:
    """Ask every request of this application who sends it."""

    @app.before_request
    def authenticate() -> None:
        _refuse_unkeepable_path()
        if isinstance(request.routing_exception, HTTPException) or request.method == "OPTIONS":
            return
        found = marks(view_of(app, request.endpoint, request.method))
        if OPEN in found:
            return
        g.user = tokens.user_of(bearer_token(), clock.now())
        if ADMIN in found and not g.user.is_admin:
            raise Forbidden("Only administrators may do this.")


def current_user() -> UserProfile:
    """The authenticated caller: a detached row, as it was when the request began."""
    user: UserProfile = g.user
    return user


def bearer_token() -> str:
    """The key in `Authorization: Bearer`, the only place one is looked for."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("Send an API key: Authorization: Bearer <key>.")
    g.challenge = ', error="invalid_token"'
    return token.strip()


def _refuse_unkeepable_path() -> None:
    """Nothing has a name with a NUL character in it, and databases do not like to be asked."""
    if "\x00" in request.path:
        raise NotFound("There is nothing here.")
