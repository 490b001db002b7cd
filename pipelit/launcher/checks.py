"""What must be true before anything starts; whatever is not stops the start with one sentence."""

import fcntl
import os
import socket

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from pipelit.config import Settings
from pipelit.errors import SettingsError
from pipelit.launcher import embedded


def take_home(settings: Settings) -> int:
    """Claim the home for this process, as long as it lives: the descriptor of the locked file."""
    lock = os.open(settings.home / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SettingsError(
            f"Pipelit already runs in {settings.home}: stop it first, or give this one another PIPELIT_HOME."
        ) from None
    return lock


def port_is_free(settings: Settings) -> None:
    """Refuse an address that cannot be listened on."""
    where = f"PIPELIT_HOST:PIPELIT_PORT ({settings.host}:{settings.port})"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise SettingsError(f"{where} is no address of this machine: set PIPELIT_HOST to one.") from None
    except OSError as error:
        raise SettingsError(
            f"{where} cannot be listened on ({error.strerror}): stop what uses it, or set another PIPELIT_PORT."
        ) from None


def redis_is_usable(settings: Settings) -> None:
    """Refuse a server that does not answer, or that may throw keys away when it runs out of memory."""
    if settings.embedded_redis:
        return
    client = Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True)
    try:
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
    except AuthenticationError:
        raise SettingsError("REDIS_URL: the server refuses the user or the password in it.") from None
    except RedisError as error:
        raise SettingsError(f"REDIS_URL: no Redis server answers there ({first_line(error)}).") from None
    finally:
        client.close()
    if policy != "noeviction":
        raise SettingsError(
            f"REDIS_URL: the server evicts keys when its memory is full (maxmemory-policy is {policy}); "
            "set it to noeviction, or executions would be lost."
        )


def embedded_server_is_gone(settings: Settings) -> None:
    """Two servers on the same files would destroy them: wait for that of a start that was killed."""
    if settings.embedded_redis and not embedded.wait_until_gone(settings, seconds=15):
        raise SettingsError(f"The Redis server of an earlier start still runs in {settings.home}: stop it first.")


def first_line(error: Exception) -> str:
    """What a driver says in a paragraph, fit for one sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
