"""The engine's own line to the server, for the scripts that every step calls."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

Word = str | int | float

KEPT = 8
"""Connections that wait for their next use; as many as that many threads or greenlets call at once may be open."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name by which the server knows it."""

    text: str
    sha: str

    @classmethod
    def named(cls, name: str) -> "Script":
        """Read one of the scripts in `engine/scripts`."""
        return cls.joined(name)

    @classmethod
    def joined(cls, *names: str) -> "Script":
        """Read scripts of which each goes on with the next, unless it returns."""
        return cls.of("".join((files("pipelit.engine.scripts") / f"{name}.lua").read_text() for name in names))

    @classmethod
    def of(cls, text: str) -> "Script":
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Line:
    """Calls scripts over connections that are kept between calls; shared by the threads of a process.

    A client of redis-py takes a connection from its pool for every command, and counts and times it: a good tenth of
    what a step costs. The connections here are made by the same pool, with the same settings, and retry as it would.
    """

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._idle: list[Any] = []
        self._pid = os.getpid()

    def call(self, script: Script, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """What the script returns. Raises redis-py's errors; a call whose answer was lost may have had its effect."""
        words = (len(keys), *keys, *args)
        connection = self._taken()

        def disconnect(_error: Exception) -> None:
            connection.disconnect()

        try:
            answer = connection.retry.call_with_retry(lambda: _ask(connection, script, words), disconnect)
        except BaseException:
            # Whatever interrupted us, a signal for one: an answer that is still on its way would be taken for the next.
            connection.disconnect()
            raise
        if len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.disconnect()
        return answer

    def _taken(self) -> Any:
        """A connection of this process: what was inherited through a fork belongs to the parent."""
        if self._pid != os.getpid():
            self._pid, self._idle = os.getpid(), []
        return self._idle.pop() if self._idle else self._pool.make_connection()


def _ask(connection: Any, script: Script, words: Sequence[Word]) -> Any:
    connection.send_command("EVALSHA", script.sha, *words)
    try:
        return connection.read_response()
    except NoScriptError:
        connection.send_command("EVAL", script.text, *words)
        return connection.read_response()
