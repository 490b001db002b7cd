"""The handles to SQL, the broker and Redis, made empty here and bound to their settings by `create_app`."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from flask import current_app
from flask_sqlalchemy import SQLAlchemy
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from pipelit.config import Settings

db = SQLAlchemy(session_options={"expire_on_commit": False})
celery = Celery("pipelit", set_as_current=True)

AWAY = (RedisConnectionError, RedisTimeoutError, OperationalError, InterfaceError)
"""What is raised when a server is away that everybody needs: who goes through a list stops there until it is back."""

WRITE = "pipelit_write"

WRITE_LOCK_SECONDS = 30.0
"""How long a transaction that writes waits for those of others."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.0005, 0.008
"""Between two looks at whether SQLite can be written to."""

SQLITE_BUSY_MS = 5_000
SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "cache_size=-8000",
)


def connect_redis(url: str) -> "Redis":
    """A client of the Redis-compatible server, text in and out, that rides out a short outage."""
    return Redis.from_url(
        url,
        decode_responses=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        protocol=2,
    )


def settings() -> Settings:
    """The settings of the application in whose context this is called."""
    found: Settings = current_app.extensions["pipelit.settings"]
    return found


def redis() -> "Redis":
    """The shared Redis client of the application in whose context this is called."""
    found: Redis = current_app.extensions["pipelit.redis"]
    return found


@contextmanager
def transaction() -> Iterator[Session]:
    """One use case that writes: commits at the end, rolls back if anything is raised.

    What was read before belongs to an older transaction, which ends here; what decides about the write is to be read
    inside. SQLite takes its write lock at the start, so that a reader never has to become a writer half-way.
    """
    session = db.session()
    session.rollback()
    session.connection(execution_options={WRITE: True})
    try:
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise


@event.listens_for(Engine, "connect")
def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Write-ahead log, foreign keys, and transactions that we begin ourselves."""
    if not isinstance(connection, sqlite3.Connection):
        return
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    if not connection.execute("PRAGMA page_count").fetchone()[0]:
        # Settled with the first page of a new file. For one that is there it would change nothing, and wait in C, where
        # no greenlet takes its turn, for whoever writes.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


@event.listens_for(Engine, "begin")
def _begin_sqlite(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    if connection.get_execution_options().get(WRITE, False):
        _take_write_lock(connection)
    else:
        connection.exec_driver_sql("BEGIN")


def _take_write_lock(connection: Connection) -> None:
    """Begin to write, once nobody else does.

    SQLite itself would wait in C, where greenlets cannot take turns, and look again after up to 100 ms; transactions
    are a few milliseconds long.
    """
    until = time.monotonic() + WRITE_LOCK_SECONDS
    pause = SHORTEST_PAUSE
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    try:
        while not _has_begun(connection, is_last=time.monotonic() > until):
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")


def _has_begun(connection: Connection, *, is_last: bool) -> bool:
    """Try to begin to write. False if somebody else writes; the last try raises what SQLite says of that."""
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if is_last or getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True
