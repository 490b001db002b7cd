"""A web server in the test's process, and clients of its WebSocket."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import websocket
from flask import Flask
from redis import Redis
from werkzeug.serving import WSGIRequestHandler, make_server

from pipelit.api.live import EXTENSION, Limits, Live
from pipelit.config import Settings
from pipelit.engine import broadcast
from pipelit.launcher import embedded
from pipelit.launcher.environment import prepare_home


class Quiet(WSGIRequestHandler):
    """Logs nothing; what goes wrong shows in the client."""

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@dataclass
class Watcher:
    """A client that speaks in JSON."""

    socket: websocket.WebSocket

    def say(self, **message: object) -> None:
        self.socket.send(json.dumps(message))

    def hear(self, seconds: float = 60) -> dict[str, Any]:
        """The next message."""
        self.socket.settimeout(seconds)
        message: dict[str, Any] = json.loads(self.socket.recv())
        return message

    def hear_all(self, count: int) -> list[dict[str, Any]]:
        return [self.hear() for _ in range(count)]

    def subscribe(self, channel: str, **more: object) -> None:
        """Subscribe, and read the confirmation."""
        self.say(type="subscribe", channel=channel, **more)
        assert self.hear() == {"type": "subscribed", "channel": channel}

    def is_silent(self, seconds: float = 0.2) -> bool:
        try:
            self.hear(seconds)
        except websocket.WebSocketTimeoutException:
            return True
        return False

    def closed_with(self, seconds: float = 60) -> int:
        """The code that the server closes with; whatever it says before that is skipped."""
        self.socket.settimeout(seconds)
        while True:
            opcode, payload = self.socket.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(payload[:2])


class Server:
    """A server of a test's own, which may be killed and started again with all its data."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings.load({"PIPELIT_HOME": str(home)})
        prepare_home(self.settings)
        self.start()

    def start(self) -> None:
        self._process = Popen(embedded.command(self.settings))
        assert embedded.wait_until_answering(self.settings, seconds=60)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


Connect = Callable[..., Watcher]
Emit = Callable[..., None]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    yield server
    server.kill()


@pytest.fixture
def limits() -> Limits:
    """What clients of this test's server get; a test module may say otherwise."""
    return Limits(blocked=0.5, farewell=0.3)


@pytest.fixture
def live(app: Flask, limits: Limits) -> Live:
    """The live part of the application."""
    found: Live = app.extensions[EXTENSION]
    found.limits = limits
    app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": limits.message_bytes}
    return found


@pytest.fixture
def address(app: Flask, live: Live) -> Iterator[str]:
    """`host:port` of a server that gives each connection a thread."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.port}"
    live.close()
    wait_until(lambda: live.connections == 0)
    server.shutdown()
    thread.join()
    server.server_close()
    live.hub.stop()


@pytest.fixture
def connect(address: str) -> Iterator[Connect]:
    """Opens a WebSocket, with a key in the address or without one."""
    opened: list[websocket.WebSocket] = []

    def open_socket(key: str | None = None, **options: Any) -> Watcher:
        query = f"?token={key}" if key is not None else ""
        opened.append(websocket.create_connection(f"ws://{address}/ws/{query}", timeout=60, **options))
        return Watcher(opened[-1])

    yield open_socket
    for each in opened:
        each.shutdown()


@pytest.fixture
def emit(app: Flask) -> Emit:
    """Numbers an event of an execution, keeps it and publishes it, all at once, as the engine does."""
    redis: Redis = app.extensions["pipelit.redis"]

    def run(execution_id: str, seq: int, **content: Any) -> None:
        body = json.dumps({"type": "node_status", "data": {"n": seq, **content}, "timestamp": "2026-01-01T00:00:00Z"})
        with redis.pipeline(transaction=True) as both:
            both.xadd(broadcast.stream_key(execution_id), {"e": body}, id=f"{seq}-0")
            both.publish(f"{broadcast.PREFIX}{broadcast.execution_channel(execution_id)}", f"{seq}\n{body}")
            both.execute()

    return run


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)
