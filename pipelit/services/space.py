"""Space that deleted rows leave in a SQLite file, given back to the file system. PostgreSQL sees to it by itself."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from pipelit.extensions import SQLITE_BUSY_MS, db

log = structlog.get_logger(__name__)

PAGES = 500
"""Given back in one step (2 MB), during which nobody else writes."""
SPARE = 16
"""One page in so many may stay free: what is written next needs it."""
PATIENCE_MS = 100
"""How long a checkpoint waits for those who read, and keeps others from writing meanwhile."""
INCREMENTAL = 2


def give_back(until: float) -> int:
    """Make the file smaller, step by step, until a time of the monotonic clock; how many pages were given back."""
    given = 0
    with _sqlite() as connection:
        if connection is None or _number(connection, "auto_vacuum") != INCREMENTAL:
            return 0
        while (began := time.monotonic()) < until and (given_now := _step(connection)):
            given += given_now
            time.sleep(min(0.5, time.monotonic() - began))
        if given:
            _checkpoint(connection)
            log.info("space_given_back", pages=given)
    return given


def compact() -> tuple[int, int]:
    """Write the whole file anew, so that it can be made smaller in steps from now on; its bytes before and after.

    Needs as much free space again, and nobody else may write meanwhile. (0, 0) where there is no such file.
    """
    with _sqlite() as connection:
        if connection is None:
            return 0, 0
        before = _bytes(connection)
        connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
        connection.execute("VACUUM")
        _checkpoint(connection)
        return before, _bytes(connection)


@contextmanager
def _sqlite() -> Iterator[sqlite3.Connection | None]:
    """The driver's connection, outside of any transaction: inside one none of this works. None on PostgreSQL."""
    db.session.rollback()
    pooled = db.engine.raw_connection()
    try:
        driver = pooled.driver_connection
        yield driver if isinstance(driver, sqlite3.Connection) else None
    finally:
        pooled.close()


def _step(connection: sqlite3.Connection) -> int:
    """Give some pages back; how many those were."""
    free = _number(connection, "freelist_count")
    excess = min(free - _number(connection, "page_count") // SPARE, PAGES)
    if excess <= 0:
        return 0
    # A script, because the statement moves one page with each of its steps, and `execute` takes the first one only.
    connection.executescript(f"PRAGMA incremental_vacuum({excess})")
    return free - _number(connection, "freelist_count")


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Bring the log into the file, which shrinks only then. Somebody who reads puts it off; the next one does it."""
    connection.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _bytes(connection: sqlite3.Connection) -> int:
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    return Path(file).stat().st_size if file else 0
