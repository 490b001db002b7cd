"""What is wrong stops the start with one clear sentence and exit code 2, never with a traceback."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from redis import Redis

from tests.support.product import Product

pytestmark = pytest.mark.product


def refusal(command: str, environ: Mapping[str, str], folder: Path) -> str:
    """The one sentence with which a command refuses to start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIPELIT_")}
    ended = subprocess.run(
        [sys.executable, "-m", "pipelit", *command.split()],
        env={**kept, "PIPELIT_HOME": str(folder / "home"), **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    sentence = ended.stderr.strip()
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    assert sentence.startswith("pipelit: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence, sentence
    return sentence.removeprefix("pipelit: ")


@pytest.mark.parametrize(
    ("command", "environ", "sentence"),
    [
        ("up", {"PIPELIT_PORT": "many"}, "PIPELIT_PORT ('many') must be a whole number from 1 to 65535."),
        ("up", {"DATABASE_URL": "oracle://db"}, "DATABASE_URL must look like sqlite:////whole/path.db"),
        ("worker", {"REDIS_URL": "redis//nowhere"}, "REDIS_URL must look like redis://host:6379/0"),
        ("server", {"FIELD_ENCRYPTION_KEY": "not-a-key"}, "FIELD_ENCRYPTION_KEY must hold Fernet keys"),
        ("up", {"REDIS_URL": "redis://127.0.0.1:1/0"}, "REDIS_URL: no Redis server answers there"),
        ("worker steps", {"REDIS_URL": "redis://127.0.0.1:1/0"}, "REDIS_URL: no Redis server answers there"),
        ("server", {"REDIS_URL": "unix:///nowhere.sock"}, "REDIS_URL: no Redis server answers there"),
        ("up", {"DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/x"}, "DATABASE_URL: the database cannot be opened"),
        ("migrate", {"DATABASE_URL": "sqlite:////proc/nowhere/x.db"}, "DATABASE_URL: the folder of /proc/nowhere/x.db"),
        ("up", {"PIPELIT_HOST": "192.0.2.1"}, "PIPELIT_HOST:PIPELIT_PORT (192.0.2.1:8000) cannot be listened on"),
        ("up", {"PIPELIT_HOME": "/proc/nowhere"}, "PIPELIT_HOME (/proc/nowhere) cannot be used"),
    ],
)
def test_a_wrong_setting_is_named(command, environ, sentence, tmp_path):
    said = refusal(command, environ, tmp_path)

    assert said.startswith(sentence)
    assert "s3cret" not in said


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])

        for command in ("up", "server"):
            assert "stop what uses it, or set another PIPELIT_PORT." in refusal(
                command, {"PIPELIT_PORT": port}, tmp_path
            )


@pytest.fixture
def evicting_server(redis_server: str) -> Iterator[str]:
    with Redis.from_url(redis_server) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield redis_server
        client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize("command", ["up", "server", "worker"])
def test_a_server_that_throws_keys_away_is_refused(command, evicting_server, tmp_path):
    said = refusal(command, {"REDIS_URL": evicting_server}, tmp_path)

    assert "maxmemory-policy is allkeys-lru" in said
    assert "set it to noeviction" in said


def test_a_second_start_in_the_same_home_is_refused_and_the_first_runs_on(new_product: Product):
    new_product.start()

    said = refusal("up", {"PIPELIT_HOME": str(new_product.home)}, new_product.home.parent)

    assert said.startswith(f"Pipelit already runs in {new_product.home}")
    assert new_product.call("GET", "/api/v1/health/ready/").status == 200
