"""What happened, on its way to SQL: committed with each transition, written to rows in batches by one task at a time.

An entry is one element of a Redis stream, appended by the commit script. Writing it twice changes nothing, so a writer
that dies half-way costs nothing but time.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import LockNotOwnedError
from sqlalchemy.exc import DataError, IntegrityError

from pipelit.engine import broadcast, records
from pipelit.engine.entries import Entry, Kind
from pipelit.engine.keys import JOURNAL, RECORDED
from pipelit.engine.store import Store
from pipelit.extensions import transaction

log = structlog.get_logger(__name__)

BATCH = 500
LOCK = "pipelit:journal:lock"
LOCK_SECONDS = 10

REFUSALS = (DataError, IntegrityError, ValueError)
"""What a database says of values that it does not take; everything else is its own trouble, and passes."""


def drain(redis: Redis, store: Store) -> int:
    """Write everything in the journal to SQL; 0 if another writer is at it. Needs an application context."""
    lock = redis.lock(LOCK, timeout=LOCK_SECONDS, blocking=False)
    written = 0
    # Whoever holds the lock looks again after releasing it: an entry that came in between has found the lock taken.
    while redis.xlen(JOURNAL) and lock.acquire():
        try:
            while batch := _oldest(redis):
                _put_down(redis, store, batch)
                written += len(batch)
                lock.reacquire()
        except LockNotOwnedError:
            # We took longer than the lock lasts, and another writer goes on with what we had not deleted: harmless.
            log.warning("journal_lock_expired")
            break
        finally:
            _release(lock)
    return written


def _oldest(redis: Redis) -> list[tuple[str, dict[str, str]]]:
    found: Any = redis.xrange(JOURNAL, count=BATCH)
    return list(found)


def _put_down(redis: Redis, store: Store, batch: list[tuple[str, dict[str, str]]]) -> None:
    entries = [Entry.read(fields) for _, fields in batch]
    write(entries, store)
    # Before the entries are deleted: who dies in between leaves them to be written, and forgotten, again.
    for entry in entries:
        if entry.kind is Kind.ENDED:
            store.forget(entry.execution_id)
            redis.publish(broadcast.PREFIX + RECORDED + entry.execution_id, "\n{}")
    redis.xdel(JOURNAL, *(entry_id for entry_id, _ in batch))


def _release(lock: Any) -> None:
    try:
        lock.release()
    except LockNotOwnedError:
        log.warning("journal_lock_expired")


def write(entries: Iterable[Entry], store: Store) -> None:
    """Write entries, in one transaction; entries of executions that were deleted meanwhile are dropped.

    Where the database refuses what stands in one of them, each is written for itself, so that none keeps the others.
    """
    batch = list(entries)
    kept_events = {entry.execution_id: _events(store, entry) for entry in batch if entry.kind is Kind.ENDED}
    try:
        with transaction() as session:
            records.write(session, batch, kept_events)
    except REFUSALS:
        with transaction() as session:
            there = records.existing(session, {entry.execution_id for entry in batch})
        for entry in batch:
            if entry.execution_id in there:
                _write_alone(entry, kept_events)


def _write_alone(entry: Entry, kept_events: Mapping[str, bytes]) -> None:
    """Write one entry, or say what is lost with it; an execution ends at any rate."""
    try:
        with transaction() as session:
            records.write(session, [entry], kept_events)
    except REFUSALS:
        log.exception("journal_entry_refused", execution_id=entry.execution_id, kind=entry.kind)
        if entry.kind is Kind.ENDED and entry.output is not None:
            reason = {"error": "The final output could not be stored.", "error_code": "output_invalid"}
            _write_alone(replace(entry, output=None, facts={**reason, **entry.facts}), kept_events)


def _events(store: Store, entry: Entry) -> bytes:
    kept = broadcast.missed(store.redis, entry.execution_id, 0)
    # Each body is the JSON of an object already; its number is put in front of what it says.
    return zlib.compress(("[" + ",".join(f'{{"seq":{event.seq},{event.body[1:]}' for event in kept) + "]").encode())
