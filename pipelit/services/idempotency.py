"""A request that carries an `Idempotency-Key` is carried out once, however often it is sent.

The record is made before the request runs, and marked as carried out by the very transaction that carries it out. So a
process that dies half-way leaves either no effect, and the key may be used again, or an effect that nobody repeats. The
record names its process, so that a process which is gone keeps nobody waiting; and whoever was taken for gone and is
not finds, when it wants to commit, that the record is not its own any more, and has no effect.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, event, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from pipelit.engine import lease
from pipelit.errors import AnswerLost, IdempotencyConflict, RequestInProgress
from pipelit.extensions import db, transaction
from pipelit.models import IdempotencyRecord
from pipelit.models.types import cipher

KEPT = timedelta(hours=24)
LONGEST_REQUEST = timedelta(seconds=120)
"""After this long without an answer a request does not count as running any more, whatever became of its process."""

UNSEEN_REQUEST = timedelta(seconds=10)
"""The same for one whose process was on another machine, or before this one was booted: nobody can look for it."""

CARRIED_OUT = 102
"""The status of a record whose request has had its effect and is not answered yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: enough to answer it again."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """The request was carried out and its answer was lost: it started this execution, of which it can be answered."""

    execution_id: str


@dataclass(slots=True)
class Running:
    """A request that runs. `holder` is its process and a token: nobody else's record has the same."""

    record_id: int
    holder: str
    execution_id: str | None = None


_current: ContextVar[Running | None] = ContextVar("idempotency_record", default=None)


def fingerprint(*parts: str | bytes) -> str:
    """What makes two requests the same: method, address and body."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8) + raw)
    return digest.hexdigest()


def begin(owner: str, key: str, print_: str, at: datetime) -> Running | Answer | Started:
    """The record of a request that is to run now, or the answer it had when it ran, or what it started.

    Raises `RequestInProgress` while another one with the key runs, `IdempotencyConflict` if that was a different one.
    """
    holder = f"{lease.owner()} {uuid.uuid4().hex}"
    try:
        with transaction() as session:
            _forget_if_over(session, owner, key, at)
            record = IdempotencyRecord(owner=owner, key=key, fingerprint=print_, created_at=at, holder=holder)
            session.add(record)
            session.flush()
            return Running(record.id, holder)
    except IntegrityError:
        return _earlier(owner, key, print_, at)


@contextmanager
def running(request: Running) -> Iterator[None]:
    """While the request runs: its first commit marks the record; a failure before that frees the key."""
    token = _current.set(request)
    try:
        yield
    except BaseException:
        _current.set(None)
        _give_up(request)
        raise
    finally:
        _current.reset(token)


@contextmanager
def preparing() -> Iterator[None]:
    """What is committed in here is not yet what the request is about: if it goes no further, its key stays free."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def starts(execution_id: str) -> None:
    """The transaction that is open starts this execution: if a request is to be answered, it can be answered of it."""
    request = _current.get()
    if request is not None:
        request.execution_id = execution_id


def finish(request: Running, answer: Answer) -> None:
    """Keep the answer, encrypted: it may hold a key that is shown once."""
    kept = cipher.encrypt(json.dumps({"body": answer.body, "headers": answer.headers}))
    with transaction() as session:
        session.execute(update(IdempotencyRecord).where(*_mine(request)).values(status=answer.status, body=kept))


def forget_old(at: datetime) -> int:
    """Remove the records older than a day; how many there were."""
    with transaction() as session:
        # `Any`: only the result of a statement that changes rows counts them, which the type does not say.
        result: Any = session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.created_at < at - KEPT))
        return int(result.rowcount)


def _forget_if_over(session: Session, owner: str, key: str, at: datetime) -> None:
    """Remove the record of a key that is old, or whose request was never carried out and is not running any more."""
    named = IdempotencyRecord.owner == owner, IdempotencyRecord.key == key
    record = session.scalar(select(IdempotencyRecord).where(*named).with_for_update())
    if record is None:
        return
    if record.created_at < at - KEPT or (record.status is None and not _is_running(record, at)):
        session.delete(record)
        session.flush()


def _is_running(record: IdempotencyRecord, at: datetime) -> bool:
    """Whether a process may still be at the request."""
    process = (record.holder or "").partition(" ")[0]
    if not process:
        return record.status is None and record.created_at >= at - LONGEST_REQUEST
    if lease.is_dead(process):
        return False
    is_here = process.rsplit("/", 2)[0] == lease.machine()
    limit = LONGEST_REQUEST if is_here else UNSEEN_REQUEST
    return record.created_at >= at - limit


def _give_up(request: Running) -> None:
    """The request failed: nothing was done, and its key is free, or it was, and there is no answer to come."""
    with transaction() as session:
        session.execute(delete(IdempotencyRecord).where(*_mine(request), IdempotencyRecord.status.is_(None)))
        session.execute(update(IdempotencyRecord).where(*_mine(request)).values(holder=None))


def _mine(request: Running) -> tuple[ColumnElement[bool], ...]:
    """By the holder too: where a record was removed, its id may be given out again."""
    return IdempotencyRecord.id == request.record_id, IdempotencyRecord.holder == request.holder


def _earlier(owner: str, key: str, print_: str, at: datetime) -> Answer | Started:
    record = db.session.scalar(
        select(IdempotencyRecord).where(IdempotencyRecord.owner == owner, IdempotencyRecord.key == key)
    )
    if record is not None and record.fingerprint != print_:
        raise IdempotencyConflict("This Idempotency-Key was used for another request. Choose a new one.")
    if record is None or record.status is None:
        raise _in_progress()
    if record.status != CARRIED_OUT and record.body is not None:
        kept = json.loads(cipher.decrypt(record.body))
        return Answer(record.status, kept["body"], kept["headers"])
    if record.execution_id is not None:
        return Started(record.execution_id)
    if _is_running(record, at):
        raise _in_progress()
    raise AnswerLost("The request was carried out, but its answer was lost. Look for its effect.")


def _in_progress() -> RequestInProgress:
    return RequestInProgress("A request with this Idempotency-Key is running. Ask again for its answer.", after=1)


@event.listens_for(Session, "before_commit")
def _mark_as_carried_out(session: Session) -> None:
    """Part of the transaction that has the request's effect: both become true at once, or neither.

    Raises `RequestInProgress` if another request has taken the key over meanwhile: then this one must have no effect.
    """
    request = _current.get()
    if request is None or not session.in_transaction():
        return
    marked = update(IdempotencyRecord).where(*_mine(request))
    # `Any`: only the result of a statement that changes rows counts them, which the type does not say.
    result: Any = session.execute(marked.values(status=CARRIED_OUT, execution_id=request.execution_id))
    if not result.rowcount:
        raise _in_progress()
