"""What happened, on its way to SQL: committed with each transition, written to rows in batches by one task at a time.

An entry is one element of a Redis stream, appended by the commit script. Writing it twice changes nothing, so a writer
that dies half-way costs nothing but time.
"""

import uuid
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from pipelit.engine import broadcast, records
from pipelit.engine.entries import Entry, Kind
from pipelit.engine.keys import JOURNAL, RECORDED
from pipelit.engine.line import Line, Script
from pipelit.engine.store import Store
from pipelit.extensions import db, transaction

log = structlog.get_logger(__name__)

BATCH = 500
LOCK = "pipelit:journal:lock"
LOCK_SECONDS = 10
TAKE = Script.named("journal")

TURN = 0x70_6C_10
"""The lock of PostgreSQL that a writer holds while it writes; SQLite has one writer anyway."""

SILENT_SECONDS = 30
"""For how long PostgreSQL lets a writer keep others waiting that says nothing more, as on a machine that is gone."""

TAKE_TURN = text(
    f"SELECT pg_advisory_xact_lock({TURN}), "
    f"set_config('idle_in_transaction_session_timeout', '{SILENT_SECONDS}s', true)"
)

EVENTS_AT_ONCE = 1000
"""How many events of an execution are read with those of others; the rest of a long one is read for itself."""

REFUSALS = (DataError, IntegrityError, ValueError)
"""What a database says of values that it does not take; everything else is its own trouble, and passes."""


FollowUp = Callable[[Collection[str]], None]
"""Has somebody do what is still to be done about executions that ended."""


class Journal:
    """Writes the journal to SQL; shared by the threads of a process."""

    def __init__(self, redis: Redis, store: Store, follow_up: FollowUp) -> None:
        self.redis = redis
        self.store = store
        self.follow_up = follow_up
        self._line = Line(redis)

    def drain(self) -> int:
        """Write everything in the journal; 0 if another writer is at it. Needs an application context."""
        token, written = uuid.uuid4().hex, 0
        try:
            while batch := self._take(token, BATCH):
                write([entry for _, entry in batch], self.store, lambda: self._is_mine(token))
                self._call_follow_up({entry.execution_id for _, entry in batch if entry.kind is Kind.ENDED})
                self._put_away(batch)
                written += len(batch)
        except LockLost:
            log.info("journal_lock_lost", written=written)
        except BaseException:
            with suppress(RedisError):
                self._take(token, 0)
            raise
        return written

    def attend(self, flag: str, pause: Callable[[], bool]) -> int:
        """Write for as long as there is something to write and `pause` says after a while that we stay.

        The flag keeps others from calling a writer. It is taken away before the last look: what is committed before
        that is written here, and who commits after it calls again.
        """
        written = 0
        while count := self.drain():
            written += count
            if not pause():
                break
        self.redis.delete(flag)
        return written + self.drain()

    def _take(self, token: str, count: int) -> list[tuple[str, Entry]]:
        """The oldest entries. Who took longer than the lock lasts gets none: another writer goes on with them."""
        found: Any = self._line.call(TAKE, (LOCK, JOURNAL), (token, LOCK_SECONDS * 1000, count))
        return [(entry_id, Entry.read(dict(zip(words[::2], words[1::2], strict=True)))) for entry_id, words in found]

    def _is_mine(self, token: str) -> bool:
        return self.redis.get(LOCK) == token

    def _call_follow_up(self, ended: Collection[str]) -> None:
        if not ended:
            return
        waiting = records.to_follow_up(db.session(), ended)
        db.session.rollback()
        if waiting:
            self.follow_up(waiting)

    def _put_away(self, batch: Sequence[tuple[str, Entry]]) -> None:
        """Forget what has ended, and tell who waits for it. The entries go last: who dies before leaves them there."""
        ended = [entry.execution_id for _, entry in batch if entry.kind is Kind.ENDED]
        self.store.forget(*ended)
        pipeline = self.redis.pipeline(transaction=False)
        for execution_id in ended:
            pipeline.publish(broadcast.PREFIX + RECORDED + execution_id, "\n{}")
        pipeline.xdel(JOURNAL, *(entry_id for entry_id, _ in batch))
        pipeline.execute()


class LockLost(Exception):
    """Another writer may have written the entries, and newer ones, while this one was kept waiting."""


IsMine = Callable[[], bool]
"""Whether the journal's lock is still the writer's."""


def write(entries: Iterable[Entry], store: Store, is_mine: IsMine = lambda: True) -> None:
    """Write entries, in one transaction; entries of executions that were deleted meanwhile are dropped.

    Where the database refuses what stands in one of them, each is written for itself, so that none keeps the others.
    Raises `LockLost`, with nothing written, if it comes to be its turn when `is_mine` does not hold any more.
    """
    batch = list(entries)
    kept_events = _events(store, {entry.execution_id for entry in batch if entry.kind is Kind.ENDED})
    try:
        with turn(is_mine) as session:
            records.write(session, batch, kept_events)
    except REFUSALS:
        with transaction() as session:
            there = records.existing(session, {entry.execution_id for entry in batch})
        for entry in batch:
            if entry.execution_id in there:
                _write_alone(entry, kept_events, is_mine)


@contextmanager
def turn(is_mine: IsMine) -> Iterator[Session]:
    """A transaction that no other writer is beside, and that none has overtaken.

    Who waited long for it may have lost the journal's lock. Looking at that inside is what makes it certain: whoever
    takes the lock later has to wait until we have committed.
    """
    with transaction() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(TAKE_TURN)
        if not is_mine():
            raise LockLost
        yield session


def _write_alone(entry: Entry, kept_events: Mapping[str, bytes], is_mine: IsMine) -> None:
    """Write one entry, or say what is lost with it; an execution ends at any rate."""
    try:
        with turn(is_mine) as session:
            records.write(session, [entry], kept_events)
    except REFUSALS:
        log.exception("journal_entry_refused", execution_id=entry.execution_id, kind=entry.kind)
        if entry.kind is Kind.ENDED and entry.output is not None:
            reason = {"error": "The final output could not be stored.", "error_code": "output_invalid"}
            _write_alone(replace(entry, output=None, facts={**reason, **entry.facts}), kept_events, is_mine)


def _events(store: Store, ended: Collection[str]) -> dict[str, bytes]:
    """The numbered events of executions that end, as they are kept, by execution."""
    pipeline = store.redis.pipeline(transaction=False)
    for execution_id in ended:
        pipeline.xrange(broadcast.stream_key(execution_id), count=EVENTS_AT_ONCE)
    return {
        execution_id: _packed(store.redis, execution_id, found)
        for execution_id, found in zip(ended, pipeline.execute(), strict=True)
    }


def _packed(redis: Redis, execution_id: str, found: Sequence[Any]) -> bytes:
    events = broadcast.numbered(found)
    if len(events) == EVENTS_AT_ONCE:
        events += broadcast.missed(redis, execution_id, events[-1].seq or 0)
    # Each body is the JSON of an object already; its number is put in front of what it says.
    return zlib.compress(("[" + ",".join(f'{{"seq":{event.seq},{event.body[1:]}' for event in events) + "]").encode())
