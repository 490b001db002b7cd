"""The server Pipelit brings along."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection
from redis import Redis

from pipelit.config import Settings, embedded_socket
from pipelit.launcher import embedded
from pipelit.launcher.environment import prepare_home


@pytest.fixture(params=["home", "with space and 100%", "deep/" * 40])
def settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        settings = Settings.load({"PIPELIT_HOME": str(Path(folder) / request.param)})
        prepare_home(settings)
        yield settings


def test_wherever_the_home_is_client_and_broker_reach_the_server_and_nobody_else_can(settings):
    with (
        embedded.running(settings),
        Redis.from_url(settings.redis_url) as client,
        Connection(settings.broker_url) as broker,
    ):
        broker.ensure_connection(max_retries=1, timeout=60)

        assert client.ping()
        assert broker.connected
        assert client.config_get("port") == {"port": "0"}
        assert embedded_socket(settings.home).stat().st_mode & 0o077 == 0


def test_what_was_written_is_there_again_after_a_restart_and_nothing_is_ever_evicted(settings):
    with embedded.running(settings), Redis.from_url(settings.redis_url) as client:
        client.set("kept", "yes")

    with embedded.running(settings), Redis.from_url(settings.redis_url, decode_responses=True) as client:
        assert client.get("kept") == "yes"
        assert client.info("memory")["maxmemory_policy"] == "noeviction"


def test_a_stale_socket_of_a_killed_server_does_not_stop_the_next_one(settings):
    server = subprocess.Popen(embedded.command(settings), stdout=subprocess.DEVNULL)
    assert embedded.wait_until_answering(settings, seconds=60)

    os.kill(server.pid, signal.SIGKILL)
    server.wait()

    assert embedded_socket(settings.home).exists()
    assert embedded.wait_until_gone(settings, seconds=60)
    with embedded.running(settings):
        assert embedded.answers(settings)
