"""What is kept and for how long. Old executions go with all that belongs to them; live ones are never touched.

Everything happens in small transactions with pauses as long as the work before them, so that others get to write. A
sweep that dies half-way has only done less.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import structlog
from redis.exceptions import LockError
from sqlalchemy import ColumnElement, Select, delete, exists, func, or_, select
from sqlalchemy.orm import aliased

from pipelit.config import Settings
from pipelit.engine.runtime import engine
from pipelit.extensions import db, transaction
from pipelit.models import CompiledPlan, Workflow, WorkflowExecution, WorkflowNode, WorkflowVersion
from pipelit.models.execution import LIVE
from pipelit.models.node import ComponentConfig
from pipelit.services import disposal, idempotency, space, tokens
from pipelit.services.disposal import HasTime, delete_some

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 20.0
LOCK = "pipelit:retention:lock"
DOES_NOT_COUNT = or_(WorkflowExecution.status.in_(LIVE), WorkflowExecution.removed_at.is_not(None))
"""Executions that fill no place of those that may be kept."""
UNUSED = timedelta(days=2)
"""How long a plan or a version stays that nothing refers to: whoever has just compiled it may be about to."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Days that ended executions are kept, and how many of them, of each workflow and in all; 0 is without end."""

    days: int
    per_workflow: int
    total: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the operator wants."""
        return cls(settings.keep_days, settings.keep_per_workflow, settings.keep_executions)


Rule = Callable[[Policy, datetime, HasTime], int]
"""Removes one batch of what has had its time; how many rows those were, 0 when there are no more."""


def sweep(policy: Policy, at: datetime, *, seconds: float = SWEEP_SECONDS) -> int:
    """Remove what is not to be kept any more and give its space back; how many rows that were.

    What is left when the time is up waits for the next sweep, and so does everything while another sweep runs.
    """
    lock = engine().redis.lock(LOCK, timeout=seconds + 60, blocking=False)
    if not lock.acquire():
        return 0
    until = time.monotonic() + seconds

    def has_time() -> bool:
        return time.monotonic() < until and lock.owned()

    try:
        removed = sum(_exhaust(rule, policy, at, has_time) for rule in RULES)
        space.give_back(until)
    finally:
        # Whoever was stopped for so long that the lock expired leaves it to the one who has it now.
        with suppress(LockError):
            lock.release()
    if removed:
        log.info("swept", removed=removed)
    return removed


def _exhaust(rule: Rule, policy: Policy, at: datetime, has_time: HasTime) -> int:
    removed = 0
    while has_time():
        began = time.monotonic()
        batch = rule(policy, at, has_time)
        if not batch:
            break
        removed += batch
        disposal.pause(began)
    return removed


def _marked(_policy: Policy, _at: datetime, has_time: HasTime) -> int:
    """What somebody has deleted, and what an earlier sweep did not get done with."""
    return disposal.clear(has_time)


def _expired(policy: Policy, at: datetime, has_time: HasTime) -> int:
    if not policy.days:
        return 0
    limit = at - timedelta(days=policy.days)
    ended_at = func.coalesce(WorkflowExecution.completed_at, WorkflowExecution.created_at)
    return _remove(_ended(WorkflowExecution.created_at < limit, ended_at < limit).limit(disposal.BATCH), at, has_time)


def _too_many_of_a_workflow(policy: Policy, at: datetime, has_time: HasTime) -> int:
    if not policy.per_workflow:
        return 0
    counts = select(WorkflowExecution.workflow_id, func.count()).group_by(WorkflowExecution.workflow_id)
    not_counted = _read(counts.where(DOES_NOT_COUNT))
    ended = {workflow: count - not_counted.get(workflow, 0) for workflow, count in _read(counts).items()}
    for workflow, count in ended.items():
        excess = count - policy.per_workflow
        if excess > 0:
            mine = _ended(WorkflowExecution.workflow_id == workflow)
            removed = _remove(mine.limit(min(excess, disposal.BATCH)), at, has_time)
            if removed:
                return removed
    return 0


def _too_many(policy: Policy, at: datetime, has_time: HasTime) -> int:
    if not policy.total:
        return 0
    db.session.rollback()
    count = select(func.count()).select_from(WorkflowExecution)
    not_counted = db.session.scalar(count.where(DOES_NOT_COUNT)) or 0
    excess = (db.session.scalar(count) or 0) - not_counted - policy.total
    return _remove(_ended().limit(min(excess, disposal.BATCH)), at, has_time) if excess > 0 else 0


def _deleted_workflows(policy: Policy, at: datetime, _has_time: HasTime) -> int:
    """Workflows that were deleted and of which no execution is left, with the secrets of their nodes."""
    if not policy.days:
        return 0
    with transaction() as session:
        mine = exists().where(WorkflowExecution.workflow_id == Workflow.id)
        gone = select(Workflow.id).where(Workflow.deleted_at < at - timedelta(days=policy.days), ~mine)
        workflow = session.scalars(gone.limit(1)).first()
        if workflow is None:
            return 0
        configs = select(WorkflowNode.component_config_id).where(WorkflowNode.workflow_id == workflow)
        session.execute(delete(ComponentConfig).where(ComponentConfig.id.in_(configs)))
        session.execute(delete(Workflow).where(Workflow.id == workflow))
        return 1


def _unused_versions(_policy: Policy, at: datetime, _has_time: HasTime) -> int:
    """Versions that no execution ran on. The current one of a workflow stays, and what may have been it just now."""
    current = exists().where(
        Workflow.id == WorkflowVersion.workflow_id,
        (Workflow.revision == WorkflowVersion.revision) | (Workflow.updated_at > at - UNUSED),
    )
    used = exists().where(WorkflowExecution.workflow_version_id == WorkflowVersion.id)
    return delete_some(WorkflowVersion.__table__, WorkflowVersion.created_at < at - UNUSED, ~current, ~used)


def _unused_plans(_policy: Policy, at: datetime, _has_time: HasTime) -> int:
    used = exists().where(WorkflowExecution.plan_hash == CompiledPlan.hash)
    return delete_some(CompiledPlan.__table__, CompiledPlan.compiled_at < at - UNUSED, ~used)


def _old_requests(_policy: Policy, at: datetime, _has_time: HasTime) -> int:
    return idempotency.forget_old(at)


def _expired_tokens(_policy: Policy, at: datetime, _has_time: HasTime) -> int:
    return tokens.remove_expired(at)


RULES: tuple[Rule, ...] = (
    _marked,
    _expired,
    _too_many_of_a_workflow,
    _too_many,
    _deleted_workflows,
    _unused_versions,
    _unused_plans,
    _old_requests,
    _expired_tokens,
)
"""Everything that does not stay for ever. What belongs to an execution need not be named: see `disposal.parts`."""


def _ended(*conditions: ColumnElement[bool]) -> Select[str]:
    """Ended executions, the oldest first: of which nothing is still to follow, and that no live one has started."""
    parent = aliased(WorkflowExecution)
    is_awaited = exists().where(parent.execution_id == WorkflowExecution.parent_execution_id, parent.status.in_(LIVE))
    is_over = WorkflowExecution.removed_at.is_(None), ~disposal.IS_OPEN, ~is_awaited
    return select(WorkflowExecution.execution_id).where(*is_over, *conditions).order_by(WorkflowExecution.created_at)


def _read(counts: Select[int, int]) -> dict[int, int]:
    db.session.rollback()
    return dict(db.session.execute(counts).all())


def _remove(chosen: Select[str], at: datetime, has_time: HasTime) -> int:
    """Mark executions and delete them; how many are gone. 0 when there are none, or no time to delete them all."""
    db.session.rollback()
    ids = db.session.scalars(chosen).all()
    if not ids:
        return 0
    with transaction() as session:
        disposal.mark(session, ids, at)
    return disposal.clear(has_time)
