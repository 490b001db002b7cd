"""Live updates: one WebSocket, channels of workflows and executions, and listeners of our own on the same channels."""

from typing import Any
from weakref import WeakSet

from flask import Blueprint, Flask, Response, current_app, request
from flask_sock import Sock
from redis import Redis
from werkzeug.exceptions import BadRequest
from wsproto.utilities import RemoteProtocolError

from pipelit import clock
from pipelit.api.auth import open_route
from pipelit.api.errors import refused_by_framework
from pipelit.api.live.client import RESTART, TOO_BUSY, Client
from pipelit.api.live.hub import Hub
from pipelit.api.live.limits import Limits
from pipelit.api.live.rooms import Listener
from pipelit.models import UserProfile
from pipelit.services import watching

__all__ = ["Hub", "Limits", "Listener", "Live", "close_all", "hub", "register"]

EXTENSION = "pipelit.live"


class Live:
    """The WebSocket clients of one application in one process, and the hub they share with its other listeners."""

    def __init__(self, redis: Redis, limits: Limits) -> None:
        self.limits = limits
        self.hub = Hub(redis, pause=limits.pause)
        self._clients: set[Client] = set()
        self._is_closing = False

    # `Any`: the WebSocket library brings no types.
    def serve(self, ws: Any, token: str | None) -> None:
        """Attend to a client until it or we part."""
        client = Client(ws, self.hub, self.limits, _whose)
        if self._is_closing:
            client.part(RESTART, "The server restarts.")
        elif len(self._clients) >= self.limits.connections:
            client.part(TOO_BUSY, "There are too many connections. Try again later.")
        self._clients.add(client)
        try:
            client.serve(token)
        finally:
            self._clients.discard(client)

    def close(self) -> None:
        """Part with every client, and refuse new ones."""
        self._is_closing = True
        for client in list(self._clients):
            client.part(RESTART, "The server restarts.")

    @property
    def connections(self) -> int:
        return len(self._clients)


# A process that is told to stop does not know its applications; usually there is one.
_all: "WeakSet[Live]" = WeakSet()


def register(app: Flask, limits: Limits | None = None) -> None:
    """Serve `/ws/`. Connects to nothing before the first client."""
    live = Live(app.extensions["pipelit.redis"], limits or Limits())
    app.extensions[EXTENSION] = live
    app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": live.limits.message_bytes}
    _all.add(live)
    blueprint = Blueprint("live", __name__)
    Sock().route("/ws/", bp=blueprint)(_events)
    blueprint.before_request(_refuse_compression)
    blueprint.register_error_handler(RemoteProtocolError, _refuse_handshake)
    app.register_blueprint(blueprint)


def close_all() -> None:
    """Close every WebSocket of this process, because it is about to end."""
    for live in list(_all):
        live.close()


def current_live() -> Live:
    """The clients of the application in whose context this is called."""
    found: Live = current_app.extensions[EXTENSION]
    return found


def hub() -> Hub:
    """The hub of the application in whose context this is called."""
    return current_live().hub


@open_route
def _events(ws: Any) -> None:
    current_live().serve(ws, request.args.get("token"))


def _whose(key: str) -> UserProfile:
    return watching.watcher(key, clock.now())


def _refuse_compression() -> None:
    """Compression would cost 90 KB for each client, and a run of the compressor for each client and event."""
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


def _refuse_handshake(error: RemoteProtocolError) -> Response:
    return refused_by_framework(BadRequest(f"This is not a WebSocket handshake: {error}."))
