"""The web server that the product runs: gevent, several processes, one port."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import websocket
from flask import Flask

from pipelit import clock
from pipelit.config import Settings
from pipelit.engine import broadcast
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
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", f"/api/v1{path}", headers={"Authorization": f"Bearer {key}"})
            response = connection.getresponse()
            response.read()
            return response.status

    def answers(self) -> bool:
        try:
            return self.ask("/health/", "") == http.HTTPStatus.OK
        except OSError:
            return False


@pytest.fixture
def server(settings: Settings, free_port: int, tmp_path: Path) -> Iterator[WebServer]:
    environment = {
        **os.environ,
        **KEYS,
        "PIPELIT_HOME": str(settings.home),
        "PIPELIT_PORT": str(free_port),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
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
        process.wait(20)


@pytest.fixture
def crowd(server: WebServer, admin: Caller) -> Iterator[list[Watcher]]:
    """Many people who watch one workflow."""
    assert admin.post("/workflows/", {"name": "Sales", "slug": "sales"}).status_code == 201
    address = f"ws://127.0.0.1:{server.port}/ws/?token={admin.key}"
    watchers = [Watcher(websocket.create_connection(address, timeout=10)) for _ in range(CROWD)]
    for watcher in watchers:
        watcher.say(type="subscribe", channel="workflow:sales")
    for watcher in watchers:
        assert watcher.hear(20)["type"] == "subscribed"
    yield watchers
    for watcher in watchers:
        watcher.socket.shutdown()


def test_everybody_hears_everything_and_the_api_still_answers(
    app: Flask, server: WebServer, crowd: list[Watcher], admin: Caller
) -> None:
    for number in range(40):
        content = {"n": number}
        broadcast.publish(app.extensions["pipelit.redis"], "workflow:sales", "workflow_updated", content, clock.now())
    statuses = [server.ask("/workflows/", admin.key) for _ in range(20)]

    for watcher in crowd:
        assert [watcher.hear(20)["data"]["n"] for _ in range(40)] == list(range(40))
    assert statuses == [200] * 20


def test_a_stop_tells_everybody_and_takes_no_time(server: WebServer, crowd: list[Watcher]) -> None:
    server.process.send_signal(signal.SIGTERM)

    assert {watcher.closed_with(60) for watcher in crowd} == {1012}
    assert server.process.wait(60) == 0
    assert "when patience ended" not in server.log.read_text()
