"""The web server that the product runs: gevent, several processes, one port."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import websocket
from flask import Flask

from pipelit import clock
from pipelit.api import limits
from pipelit.config import Settings
from pipelit.engine import broadcast
from pipelit.errors import TooManyRequests, Unauthorized
from tests.live.conftest import Watcher, wait_until
from tests.support.application import KEYS
from tests.support.callers import Caller

CROWD = 120


@dataclass
class WebServer:
    """The server's first process, where it listens and what it writes."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def ask(self, path: str, key: str) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", f"/api/v1{path}", headers={"Authorization": f"Bearer {key}"})
            response = connection.getresponse()
            response.read()
            return response.status

    def sign_in(self, forwarded_for: str) -> int:
        """The status of a try with a wrong password that claims to come from there."""
        body = json.dumps({"username": "nobody", "password": "x"})
        headers = {"Content-Type": "application/json", "X-Forwarded-For": forwarded_for}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("POST", "/api/v1/auth/token/", body, headers)
            return connection.getresponse().status

    def redirection(self, **headers: str) -> str | None:
        """Where an address with two slashes leads to."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", "/api//v1/health/", headers=named)
            return connection.getresponse().getheader("Location")

    def answers(self) -> bool:
        try:
            return self.ask("/health/", "") == http.HTTPStatus.OK
        except OSError:
            return False


@pytest.fixture
def told() -> dict[str, str]:
    """What the operator set beside the addresses; a story may say otherwise."""
    return {}


@pytest.fixture
def server(settings: Settings, free_port: int, tmp_path: Path, told: dict[str, str]) -> Iterator[WebServer]:
    environment = {
        **os.environ,
        **KEYS,
        "PIPELIT_HOME": str(settings.home),
        "PIPELIT_PORT": str(free_port),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        **told,
    }
    log = tmp_path / "web.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "pipelit", "server"], env=environment, stderr=output)
    server = WebServer(process, free_port, log)
    try:
        wait_until(server.answers, seconds=60)
        yield server
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def crowd(server: WebServer, admin: Caller) -> Iterator[list[Watcher]]:
    """Many people who watch one workflow."""
    assert admin.post("/workflows/", {"name": "Sales", "slug": "sales"}).status_code == 201
    address = f"ws://127.0.0.1:{server.port}/ws/?token={admin.key}"
    watchers = [Watcher(websocket.create_connection(address, timeout=60)) for _ in range(CROWD)]
    for watcher in watchers:
        watcher.say(type="subscribe", channel="workflow:sales")
    for watcher in watchers:
        assert watcher.hear()["type"] == "subscribed"
    yield watchers
    for watcher in watchers:
        watcher.socket.shutdown()


IN_ONE_AND_TWO_PROCESSES = pytest.mark.parametrize(
    "told", [{}, {"PIPELIT_WEB_WORKERS": "2"}], ids=["one process", "two processes"]
)


@IN_ONE_AND_TWO_PROCESSES
def test_everybody_hears_everything_and_the_api_still_answers(
    app: Flask, server: WebServer, crowd: list[Watcher], admin: Caller
) -> None:
    for number in range(40):
        content = {"n": number}
        broadcast.publish(app.extensions["pipelit.redis"], "workflow:sales", "workflow_updated", content, clock.now())
    statuses = [server.ask("/workflows/", admin.key) for _ in range(20)]

    for watcher in crowd:
        assert [watcher.hear()["data"]["n"] for _ in range(40)] == list(range(40))
    assert statuses == [200] * 20


@IN_ONE_AND_TWO_PROCESSES
def test_a_stop_tells_everybody_and_takes_no_time(server: WebServer, crowd: list[Watcher]) -> None:
    server.process.send_signal(signal.SIGTERM)

    assert {watcher.closed_with(60) for watcher in crowd} == {1012}
    assert server.process.wait(60) == 0
    assert "when patience ended" not in server.log.read_text()


def spend_tries(app: Flask, address: str) -> None:
    """Fail from this address as often as anybody may within a minute."""
    with app.test_request_context(environ_base={"REMOTE_ADDR": address}):
        for number in range(limits.PER_ADDRESS.amount):
            with suppress(Unauthorized, TooManyRequests), limits.guessing("password", f"guess {number}"):
                raise Unauthorized("Wrong.")


CLAIM = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "pipelit.example.org", "X_Forwarded_Prefix": "/else"}


def test_nobody_is_believed_about_where_a_request_comes_from(app: Flask, server: WebServer) -> None:
    spend_tries(app, "198.51.100.9")
    assert server.sign_in("198.51.100.9") == 401

    spend_tries(app, "127.0.0.1")
    assert server.sign_in("203.0.113.7") == 429
    assert server.redirection(**CLAIM) == f"http://127.0.0.1:{server.port}/api/v1/health/"


@pytest.mark.parametrize("told", [{"PIPELIT_TRUSTED_PROXIES": "1"}], ids=["one proxy"])
def test_behind_a_proxy_the_last_address_is_the_callers_and_links_lead_to_the_proxy(
    app: Flask, server: WebServer
) -> None:
    spend_tries(app, "198.51.100.9")

    assert server.sign_in("198.51.100.9") == 429
    assert server.sign_in("203.0.113.7, 198.51.100.9") == 429
    assert server.sign_in("198.51.100.9, 203.0.113.7") == 401
    assert server.redirection(**CLAIM) == "https://pipelit.example.org/api/v1/health/"
