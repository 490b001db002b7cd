"""What happened, on its way to SQL: committed with each transition, written to rows in batches by one task at a time.

An entry is one element of a Redis stream, appended by the commit script. Writing it twice changes nothing, so a writer
that dies half-way costs nothing but time.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from importlib import import_module
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import LockNotOwnedError
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from pipelit.engine import blobs, broadcast
from pipelit.engine.core.graph import Json
from pipelit.engine.keys import JOURNAL, RECORDED
from pipelit.engine.store import Store
from pipelit.extensions import transaction
from pipelit.models.execution import LIVE, ExecutionEvents, ExecutionLog, PendingTask, WorkflowExecution

log = structlog.get_logger(__name__)

BATCH = 500
LOCK = "pipelit:journal:lock"
LOCK_SECONDS = 10
TEXT_LIMIT = 4_000


class Kind(StrEnum):
    """What an entry tells."""

    STARTED = "started"
    LOG = "log"
    HELD = "held"
    RELEASED = "released"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Entry:
    """`facts` are columns of the row; `input` and `output` are JSON texts that are passed through untouched."""

    execution_id: str
    kind: Kind
    facts: Mapping[str, Json]
    input: str | None = None
    output: str | None = None

    def words(self) -> list[str]:
        """The command that appends the entry."""
        words = ["XADD", JOURNAL, "*", "x", self.execution_id, "k", self.kind, "f", json.dumps(dict(self.facts))]
        if self.input is not None:
            words += ["i", self.input]
        if self.output is not None:
            words += ["o", self.output]
        return words

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> "Entry":
        return cls(fields["x"], Kind(fields["k"]), json.loads(fields["f"]), fields.get("i"), fields.get("o"))


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
            _write(session, batch, kept_events)
    except (OperationalError, InterfaceError):
        raise  # The database is away: nothing is wrong with the entries.
    except (SQLAlchemyError, ValueError):
        with transaction() as session:
            there = _existing(session, {entry.execution_id for entry in batch})
        for entry in batch:
            if entry.execution_id in there:
                _write_alone(entry, kept_events)


def _write_alone(entry: Entry, kept_events: Mapping[str, bytes]) -> None:
    """Write one entry, or say what is lost with it; an execution ends at any rate."""
    try:
        with transaction() as session:
            _write(session, [entry], kept_events)
    except (OperationalError, InterfaceError):
        raise
    except (SQLAlchemyError, ValueError):
        log.exception("journal_entry_refused", execution_id=entry.execution_id, kind=entry.kind)
        if entry.kind is Kind.ENDED and entry.output is not None:
            reason = {"error": "The final output could not be stored.", "error_code": "output_invalid"}
            _write_alone(replace(entry, output=None, facts={**reason, **entry.facts}), kept_events)


def _write(session: Session, batch: list[Entry], kept_events: Mapping[str, bytes]) -> None:
    rows = [_log_row(entry) for entry in batch if entry.kind is Kind.LOG]
    if rows:
        session.execute(_insert_once(session, ExecutionLog), rows)
    for entry in batch:
        match entry.kind:
            case Kind.STARTED:
                _update(session, entry, "pending", status="running", started_at=_time(entry.facts["at"]))
            case Kind.HELD:
                session.execute(_insert_once(session, PendingTask), [_task_row(entry)])
                _update(session, entry, "running", status="interrupted")
            case Kind.RELEASED:
                _release_task(session, entry)
            case Kind.ENDED:
                _end(session, entry, kept_events[entry.execution_id])
            case Kind.LOG:
                pass


def _insert_once(session: Session, model: type[Any]) -> Any:
    """An insert that leaves a row alone which is there already."""
    # Each dialect has an insert of its own; only the one in use is loaded.
    dialect = import_module(f"sqlalchemy.dialects.{session.get_bind().dialect.name}")
    return dialect.insert(model).on_conflict_do_nothing()


def _existing(session: Session, ids: set[str]) -> set[str]:
    return set(session.scalars(select(WorkflowExecution.execution_id).where(WorkflowExecution.execution_id.in_(ids))))


def _log_row(entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    return {
        "execution_id": entry.execution_id,
        "node_id": facts["node_id"],
        "component_type": facts["component_type"],
        "scope": facts["scope"],
        "attempt": facts["attempt"],
        "status": facts["status"],
        "route": facts.get("route"),
        "input": entry.input,
        "output": entry.output,
        "error": _text(facts.get("error")),
        "error_code": facts.get("error_code"),
        "details": json.dumps(facts["details"]) if facts.get("details") else None,
        "queued_ms": facts.get("queued_ms"),
        "duration_ms": facts.get("duration_ms"),
        "timestamp": _time(facts["at"]),
    }


def _task_row(entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    return {
        "task_id": facts["task_id"],
        "execution_id": entry.execution_id,
        "step": facts["step"],
        "node_id": facts["node_id"],
        "kind": facts["kind"],
        "created_at": _time(facts["at"]),
        "expires_at": _time(facts["expires_at"]) if facts.get("expires_at") else None,
    }


def _release_task(session: Session, entry: Entry) -> None:
    mine = PendingTask.execution_id == entry.execution_id
    session.execute(delete(PendingTask).where(mine, PendingTask.step == entry.facts["step"]))
    if session.scalar(select(PendingTask.task_id).where(mine).limit(1)) is None:
        _update(session, entry, "interrupted", status="running")


def _end(session: Session, entry: Entry, events: bytes) -> None:
    facts = entry.facts
    ended: Any = session.execute(
        update(WorkflowExecution)
        .where(WorkflowExecution.execution_id == entry.execution_id, WorkflowExecution.status.in_(LIVE))
        .values(
            status=facts["status"],
            started_at=_time(facts["started_at"]),
            completed_at=_time(facts["at"]),
            final_output=blobs.read(entry.output, entry.execution_id) if entry.output else None,
            error_message=_text(facts.get("error")),
            error_code=facts.get("error_code"),
        )
    )
    if ended.rowcount:
        session.execute(insert(ExecutionEvents), [{"execution_id": entry.execution_id, "events": events}])
    session.execute(delete(PendingTask).where(PendingTask.execution_id == entry.execution_id))


def _update(session: Session, entry: Entry, from_status: str, **columns: Any) -> None:
    """Move an execution on, if it still stands where it is moved from."""
    session.execute(
        update(WorkflowExecution)
        .where(WorkflowExecution.execution_id == entry.execution_id, WorkflowExecution.status == from_status)
        .values(**columns)
    )


def _events(store: Store, entry: Entry) -> bytes:
    kept = [
        {"seq": event.seq, **json.loads(event.body)} for event in broadcast.missed(store.redis, entry.execution_id, 0)
    ]
    return zlib.compress(json.dumps(kept, separators=(",", ":")).encode())


def _time(milliseconds: Json) -> datetime:
    assert isinstance(milliseconds, int)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _text(value: Json) -> str | None:
    """An error's message as the databases take it: no NUL characters, no lone surrogates, not endless."""
    if value is None:
        return None
    return str(value).replace("\0", "").encode("utf-8", "replace").decode()[:TEXT_LIMIT]
