"""A new execution that reuses what an old one has done, and runs the rest.

What a small execution leaves is copied while somebody waits for the answer. Of a large one the wish is stored, and a
worker carries it out: reading and copying thousands of steps takes seconds, in which a web server answers nobody.
"""

import uuid
from datetime import datetime

import structlog
from redis.exceptions import RedisError
from sqlalchemy import and_, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from pipelit import clock
from pipelit.engine.durability import Durability
from pipelit.engine.groups import Overlap
from pipelit.engine.rounds import Round
from pipelit.engine.runtime import engine
from pipelit.errors import NotFound, PipelitError, StartRefused, WrongState
from pipelit.extensions import db, settings, transaction
from pipelit.models import ExecutionLog, UserProfile, Workflow, WorkflowExecution
from pipelit.services import admission, executions, idempotency, reuse
from pipelit.services.reuse import Base, Retry, Reuse
from pipelit.services.rights import Access

log = structlog.get_logger(__name__)

MOST_ROWS = 500
"""Rows of logs that are read and copied while somebody waits for the answer."""

AT_ONCE = 200
LOCK_SECONDS = 300
"""How long a worker that carries out a wish keeps others from doing the same; if it takes longer, it is done twice."""


def retry(execution_id: str, wanted: Retry, *, by: UserProfile, most_rows: int = MOST_ROWS) -> WorkflowExecution:
    """Begin an execution that reuses the finished steps of one that has ended. What is returned is stored: it will run.

    Raises `WrongState` while the old one is under way, and `Invalid` for a node, scope or input that it does not have.
    Of an old one with more logs than `most_rows` only a part of that is known at once; the rest fails the new one.
    """
    row = executions.get(execution_id, by=by, needed=Access.EDITOR)
    if row.is_live:
        # Its end may be known already, and on its way to its row.
        with idempotency.preparing():
            engine().drain_journal()
        db.session.refresh(row)
    if row.is_live:
        raise WrongState(f"The execution {execution_id} is {row.status}; cancel it, or wait for its end.")
    base = Base.of(row, wanted)
    begun = _new_row(base, by)
    if _is_large(row, most_rows):
        begun.retry_wish = wanted.kept()
        return _accepted(begun, row)
    found = reuse.prepare(row, wanted)
    _fill(begun, found)
    with transaction() as session:
        _hold(session, row.execution_id, row.workflow_id)
        idempotency.starts(begun.execution_id)
        session.add(begun)
        session.flush()
        for write in found.pieces(begun.execution_id):
            write(session)
    return _begin(begun)


def carry_out(execution_id: str) -> None:
    """Copy what a large retry reuses, and begin it. Harmless when repeated, also by two at once."""
    lock = engine().redis.lock(f"pipelit:retry:{execution_id}", timeout=LOCK_SECONDS, blocking=False)
    if not lock.acquire():
        return
    try:
        begun = _unplanned(execution_id)
        if begun is not None and _copy(begun):
            _begin(begun)
    except PipelitError as error:
        reason = StartRefused(f"The execution could not be run again: {error.detail}")
        engine().recovery.refuse(execution_id, reason)
    finally:
        if lock.owned():
            lock.release()


def sweep(accepted_before: datetime) -> int:
    """Have what was accepted before a time, and is still only a wish, carried out; how many those were."""
    overdue = and_(
        WorkflowExecution.status == "pending",
        WorkflowExecution.retry_wish.is_not(None),
        WorkflowExecution.created_at < accepted_before,
    )
    found = Round(engine().redis, "retries", WorkflowExecution.created_at).next_ids(overdue, AT_ONCE)
    db.session.rollback()
    for execution_id in found:
        _call(execution_id)
    return len(found)


def _is_large(row: WorkflowExecution, most_rows: int) -> bool:
    """Whether an execution, with those whose steps it reuses, has left more rows than are copied at once."""
    line: str | None = row.execution_id
    left = most_rows
    while line is not None and left >= 0:
        some = select(ExecutionLog.id).where(ExecutionLog.execution_id == line).limit(left + 1).subquery()
        left -= db.session.scalar(select(func.count()).select_from(some)) or 0
        before = select(WorkflowExecution.retried_from_id).where(WorkflowExecution.execution_id == line)
        line = db.session.scalar(before)
    return left < 0


def _accepted(begun: WorkflowExecution, row: WorkflowExecution) -> WorkflowExecution:
    """Store a wish, and have a worker carry it out."""
    with transaction() as session:
        _hold(session, row.execution_id, row.workflow_id)
        idempotency.starts(begun.execution_id)
        session.add(begun)
    try:
        _call(begun.execution_id)
    except RedisError:
        log.warning("start_postponed", execution_id=begun.execution_id)
    return begun


def _call(execution_id: str) -> None:
    message = engine().dispatcher.begin_retry(execution_id)
    engine().redis.lpush(message.key, message.payload)


def _unplanned(execution_id: str) -> WorkflowExecution | None:
    db.session.rollback()
    row = db.session.get(WorkflowExecution, execution_id, populate_existing=True)
    return row if row is not None and row.status == "pending" and row.retry_wish is not None else None


def _copy(begun: WorkflowExecution) -> bool:
    """Copy piece by piece, and others may write in between. False if the execution has ended meanwhile."""
    execution_id, wanted = begun.execution_id, Retry.read(begun.retry_wish or "{}")
    original = db.session.get(WorkflowExecution, begun.retried_from_id) if begun.retried_from_id else None
    if original is None or original.is_removed:
        raise NotFound("what was to be run again has been removed.")
    about = original.execution_id, original.workflow_id
    found = reuse.prepare(original, wanted)
    for write in found.pieces(execution_id):
        with transaction() as session:
            write(session)
    with transaction() as session:
        _hold(session, *about)
        row = session.get_one(WorkflowExecution, execution_id, populate_existing=True, with_for_update=True)
        if row.status != "pending" or row.retry_wish is None:
            return False
        _fill(row, found)
        row.retry_wish = None
    return True


def _hold(session: Session, execution_id: str, workflow_id: int) -> None:
    """Keep the old execution and its workflow, or raise `NotFound`.

    Whoever removes one of them waits for us, or we see it: nothing of what is copied has gone by then.
    """
    present = select(Workflow.id).where(Workflow.id == workflow_id, Workflow.deleted_at.is_(None))
    if session.scalar(present.with_for_update(read=True)) is None:
        raise NotFound("There is no workflow of this execution any more.")
    kept = select(WorkflowExecution.execution_id).where(
        WorkflowExecution.execution_id == execution_id, WorkflowExecution.removed_at.is_(None)
    )
    if session.scalar(kept.with_for_update(read=True)) is None:
        raise NotFound("There is no such execution any more.")


def _begin(begun: WorkflowExecution) -> WorkflowExecution:
    execution_id, group = begun.execution_id, begun.concurrency_group
    is_final = group is not None and begun.workflow.overlap == Overlap.DROP
    try:
        if not engine().rebuilder.begin(begun) and is_final:
            return executions.ended(execution_id)
    except (RedisError, DBAPIError):
        log.warning("start_postponed", execution_id=execution_id)
    db.session.rollback()
    return begun


def _new_row(base: Base, by: UserProfile) -> WorkflowExecution:
    row = base.row
    return WorkflowExecution(
        execution_id=str(uuid.uuid4()),
        workflow_id=row.workflow_id,
        workflow_version_id=base.version_id,
        plan_hash=base.plan_hash,
        trigger_node_id=row.trigger_node_id,
        user_profile_id=by.id,
        status="pending",
        trigger=row.trigger,
        trigger_payload=row.trigger_payload,
        trigger_output=dict(row.trigger_output),
        created_at=clock.now(),
        max_execution_seconds=row.workflow.max_execution_seconds,
        placement=row.workflow.placement or settings().placement,
        # It finds steps recorded that come only after others have run again.
        durability=Durability.SYNC,
        retried_from_id=row.execution_id,
        # Which step it really begins with is known when all that was recorded has been read.
        retried_from_step=str(base.plan.trigger),
    )


def _fill(begun: WorkflowExecution, found: Reuse) -> None:
    """Note what is known of a new execution once it is clear what it reuses."""
    outputs = found.trigger_output
    place = admission.place_of(found.base.row.workflow, outputs, begun.created_at)
    begun.trigger_output = dict(outputs)
    begun.retried_from_step = found.first_step
    begun.concurrency_group = place.group if place else None
