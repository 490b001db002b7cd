"""A request that carries an `Idempotency-Key` is carried out once, however often it is sent.

The record is made before the request runs, and marked as carried out by the very transaction that carries it out. So a
process that dies half-way leaves either no effect, and the key may be used again, or an effect that nobody repeats.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, event, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from pipelit.errors import AnswerLost, IdempotencyConflict, RequestInProgress
from pipelit.extensions import db, transaction
from pipelit.models import IdempotencyRecord
from pipelit.models.types import cipher

KEPT = timedelta(hours=24)
LONGEST_REQUEST = timedelta(seconds=120)
"""After this long without an answer the process that had the request is dead."""

CARRIED_OUT = 102
"""The status of a record whose request has had its effect and is not answered yet."""

_current: ContextVar[int | None] = ContextVar("idempotency_record", default=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: enough to answer it again."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


def fingerprint(*parts: str | bytes) -> str:
    """What makes two requests the same: method, address and body."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8) + raw)
    return digest.hexdigest()


def begin(owner: str, key: str, print_: str, at: datetime) -> int | Answer:
    """The record of a request that is to run now, or the answer it had when it ran.

    Raises `RequestInProgress` while another one with the key runs, `IdempotencyConflict` if that was a different one.
    """
    try:
        with transaction() as session:
            _forget_if_over(session, owner, key, at)
            record = IdempotencyRecord(owner=owner, key=key, fingerprint=print_, created_at=at)
            session.add(record)
            session.flush()
            return record.id
    except IntegrityError:
        return _earlier(owner, key, print_)


@contextmanager
def running(record_id: int) -> Iterator[None]:
    """While the request runs: its first commit marks the record; a failure before that frees the key."""
    token = _current.set(record_id)
    try:
        yield
    except BaseException:
        with transaction() as session:
            unused = IdempotencyRecord.id == record_id, IdempotencyRecord.status.is_(None)
            session.execute(delete(IdempotencyRecord).where(*unused))
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


def finish(record_id: int, answer: Answer) -> None:
    """Keep the answer, encrypted: it may hold a key that is shown once."""
    kept = cipher.encrypt(json.dumps({"body": answer.body, "headers": answer.headers}))
    with transaction() as session:
        session.execute(
            update(IdempotencyRecord).where(IdempotencyRecord.id == record_id).values(status=answer.status, body=kept)
        )


def forget_old(at: datetime) -> int:
    """Remove the records older than a day; how many there were."""
    with transaction() as session:
        # `Any`: only the result of a statement that changes rows counts them, which the type does not say.
        result: Any = session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.created_at < at - KEPT))
        return int(result.rowcount)


def _forget_if_over(session: Session, owner: str, key: str, at: datetime) -> None:
    mine = IdempotencyRecord.owner == owner, IdempotencyRecord.key == key
    session.execute(delete(IdempotencyRecord).where(*mine, IdempotencyRecord.created_at < at - KEPT))
    abandoned = IdempotencyRecord.status.is_(None), IdempotencyRecord.created_at < at - LONGEST_REQUEST
    session.execute(delete(IdempotencyRecord).where(*mine, *abandoned))


def _earlier(owner: str, key: str, print_: str) -> Answer:
    record = db.session.scalar(
        select(IdempotencyRecord).where(IdempotencyRecord.owner == owner, IdempotencyRecord.key == key)
    )
    if record is not None and record.fingerprint != print_:
        raise IdempotencyConflict("This Idempotency-Key was used for another request. Choose a new one.")
    if record is None or record.status is None:
        raise RequestInProgress("A request with this Idempotency-Key is running. Ask again for its answer.", after=1)
    if record.status == CARRIED_OUT or record.body is None:
        raise AnswerLost("The request was carried out, but its answer was lost. Look for its effect.")
    kept = json.loads(cipher.decrypt(record.body))
    return Answer(record.status, kept["body"], kept["headers"])


@event.listens_for(Session, "before_commit")
def _mark_as_carried_out(session: Session) -> None:
    """Part of the transaction that has the request's effect: both become true at once, or neither."""
    record_id = _current.get()
    if record_id is None or not session.in_transaction():
        return
    mine = IdempotencyRecord.id == record_id, IdempotencyRecord.status.is_(None)
    session.execute(update(IdempotencyRecord).where(*mine).values(status=CARRIED_OUT))
