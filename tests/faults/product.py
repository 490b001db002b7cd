"""The whole product under its own supervisor, as in life: what the suite kills is started again by nobody but it."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from pipelit.config import Settings
from pipelit.launcher import embedded
from tests.faults.workflows import BLOB_BYTES
from tests.support.product import Product, wait_until
from tests.support.servers import find_free_port, running_postgresql

DATABASE = "pipelit_faults"
LOG_LIMIT = 200_000


@dataclass
class OwnServer:
    """A Redis-compatible server on a TCP port, for an installation that was given one by `REDIS_URL`."""

    folder: Path
    port: int = field(default_factory=find_free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        kept = ("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction")
        command = [str(embedded.find_server()), *place, *kept]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@dataclass
class Installation:
    """A running product, and every door through which it can be looked at and hurt.

    `server` is the Redis-compatible server if it is not the product's own; `database_server` the URL of the maintenance
    database of a PostgreSQL, if that is what it runs on.
    """

    product: Product
    database_url: str
    lease_seconds: float
    server: OwnServer | None = None
    database_server: str | None = None

    @cached_property
    def settings(self) -> Settings:
        given = {"PIPELIT_HOME": str(self.product.home), "DATABASE_URL": self.database_url}
        return Settings.load(given | ({"REDIS_URL": self.server.url} if self.server else {}))

    @cached_property
    def redis(self) -> Redis:
        return Redis.from_url(self.settings.redis_url, decode_responses=True, socket_timeout=10)

    @cached_property
    def engine(self) -> Engine:
        """Connections of the suite's own; none is kept, because the suite cuts them off as well."""
        return create_engine(self.database_url, poolclass=NullPool)

    def rows(self, query: str, **values: object) -> list[Mapping[str, Any]]:
        """What a query finds, read as an onlooker does."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]

    def worker(self, lane: str) -> int | None:
        """The process of a lane that the supervisor looks after; None while there is none."""
        return self._child("worker", lane)

    def web(self) -> int | None:
        """gunicorn's first process."""
        return self._child("gunicorn_config")

    def embedded_server(self) -> int | None:
        """The server that the supervisor looks after."""
        return self._child("--appendonly") or self._child("unixsocket")

    def is_whole(self) -> bool:
        """Whether every process is there and the product says that it is ready."""
        if self.worker("steps") is None or self.worker("system") is None:
            return False
        try:
            self.redis.ping()
            return self.product.call("GET", "/api/v1/health/ready/").status == 200
        except (OSError, RedisError):
            return False

    def said(self) -> str:
        """The ends of all log files, for a run that fails."""
        logs = sorted((self.product.home / "logs").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-LOG_LIMIT:]}" for log in logs)

    def _child(self, *words: str) -> int | None:
        mine = (pid for pid in children(self.product.pid) if all(word in command(pid) for word in words))
        return next(mine, None)


def children(pid: int) -> list[int]:
    """The processes that a process started; none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command(pid: int) -> str:
    """A process's command line; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@contextmanager
def installation(database: str, *, lease_seconds: float, visibility_timeout: int) -> Iterator[Installation]:
    """A product in a home of its own: SQLite and the embedded server, or PostgreSQL and a server beside it."""
    with tempfile.TemporaryDirectory(prefix="pl-faults-") as folder, ExitStack() as stack:
        environ = {
            "PIPELIT_HTTP_ALLOW": "127.0.0.0/8",
            "PIPELIT_BLOB_BYTES": str(BLOB_BYTES),
            "PIPELIT_LEASE_SECONDS": str(lease_seconds),
            "PIPELIT_VISIBILITY_TIMEOUT": str(visibility_timeout),
            # One more than by default: what one of them begins, the other is asked about.
            "PIPELIT_WEB_WORKERS": "2",
        }
        home = Path(folder) / "home"
        if database == "sqlite":
            prepared = Installation(Product(home, environ=environ), f"sqlite:///{home / 'pipelit.db'}", lease_seconds)
        else:
            maintenance = stack.enter_context(running_postgresql())
            command_postgresql(maintenance, f"CREATE DATABASE {DATABASE}")
            url = make_url(maintenance).set(database=DATABASE).render_as_string(hide_password=False)
            server = OwnServer(Path(folder) / "redis")
            stack.callback(server.stop)
            server.start()
            told = {**environ, "DATABASE_URL": url, "REDIS_URL": server.url}
            prepared = Installation(Product(home, environ=told), url, lease_seconds, server, maintenance)
        stack.callback(_end, prepared)
        if prepared.server is not None:
            wait_until(lambda: _answers(prepared.redis), "the server answers")
        prepared.product.start()
        prepared.product.set_up()
        yield prepared


def command_postgresql(server: str, statement: str) -> None:
    """Run one statement on a PostgreSQL's maintenance database."""
    with psycopg.connect(server.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(statement)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def _end(installation: Installation) -> None:
    """Stop the product; whatever a fault left stopped or alone is ended too."""
    processes = installation.product.processes()
    for pid in processes:
        _signal(pid, signal.SIGCONT)
    try:
        installation.product.stop(signal.SIGTERM)
    except subprocess.TimeoutExpired:
        installation.product.kill()
    time.sleep(0.5)
    for pid in installation.product.processes():
        _signal(pid, signal.SIGKILL)
    installation.redis.close()
    installation.engine.dispose()


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
