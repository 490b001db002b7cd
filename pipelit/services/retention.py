"""What is kept and for how long. Old executions go with all that belongs to them; live ones are never touched.

Everything happens in small transactions with pauses as long as the work before them, so that others get to write. A
sweep that dies half-way has only done less.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import structlog
from sqlalchemy import ColumnElement, Select, Table, delete, exists, func, select, tuple_
from sqlalchemy.orm import aliased

from pipelit.config import Settings
from pipelit.engine.runtime import engine
from pipelit.extensions import db, transaction
from pipelit.models import CompiledPlan, Workflow, WorkflowExecution, WorkflowNode, WorkflowVersion
from pipelit.models.execution import LIVE
from pipelit.models.node import ComponentConfig
from pipelit.models.types import Base
from pipelit.services import idempotency, space, tokens

log = structlog.get_logger(__name__)

BATCH = 100
"""Executions removed together."""
ROWS = 500
"""Rows deleted in one transaction."""
SWEEP_SECONDS = 20.0
LOCK = "pipelit:retention:lock"
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


Rule = Callable[[Policy, datetime], int]
"""Removes one batch of what has had its time; how many rows those were, 0 when there are no more."""


def sweep(policy: Policy, at: datetime, *, seconds: float = SWEEP_SECONDS) -> int:
    """Remove what is not to be kept any more and give its space back; how many rows that were.

    What is left when the time is up waits for the next sweep, and so does everything while another sweep runs.
    """
    lock = engine().redis.lock(LOCK, timeout=seconds + 60, blocking=False)
    if not lock.acquire():
        return 0
    until = time.monotonic() + seconds
    try:
        removed = sum(_exhaust(rule, policy, at, until) for rule in RULES)
        space.give_back(until)
    finally:
        lock.release()
    if removed:
        log.info("swept", removed=removed)
    return removed


def parts() -> Sequence[Table]:
    """The tables whose rows belong to an execution: those that refer to it and are deleted with it."""
    mine = WorkflowExecution.__table__
    return [
        table
        for table in Base.metadata.sorted_tables
        if any(key.column.table is mine and key.ondelete == "CASCADE" for key in table.foreign_keys)
    ]


def _exhaust(rule: Rule, policy: Policy, at: datetime, until: float) -> int:
    removed = 0
    while (began := time.monotonic()) < until and (batch := rule(policy, at)):
        removed += batch
        _pause(began)
    return removed


def _pause(began: float) -> None:
    """Let others write for as long as we did."""
    time.sleep(min(0.5, time.monotonic() - began))


def _expired(policy: Policy, at: datetime) -> int:
    if not policy.days:
        return 0
    limit = at - timedelta(days=policy.days)
    ended_at = func.coalesce(WorkflowExecution.completed_at, WorkflowExecution.created_at)
    return _remove(_ended(WorkflowExecution.created_at < limit, ended_at < limit).limit(BATCH))


def _too_many_of_a_workflow(policy: Policy, _at: datetime) -> int:
    if not policy.per_workflow:
        return 0
    counts = select(WorkflowExecution.workflow_id, func.count()).group_by(WorkflowExecution.workflow_id)
    live = _read(counts.where(WorkflowExecution.status.in_(LIVE)))
    ended = {workflow: count - live.get(workflow, 0) for workflow, count in _read(counts).items()}
    for workflow, count in ended.items():
        excess = count - policy.per_workflow
        if excess > 0:
            removed = _remove(_ended(WorkflowExecution.workflow_id == workflow).limit(min(excess, BATCH)))
            if removed:
                return removed
    return 0


def _too_many(policy: Policy, _at: datetime) -> int:
    if not policy.total:
        return 0
    db.session.rollback()
    count = select(func.count()).select_from(WorkflowExecution)
    live = db.session.scalar(count.where(WorkflowExecution.status.in_(LIVE))) or 0
    excess = (db.session.scalar(count) or 0) - live - policy.total
    return _remove(_ended().limit(min(excess, BATCH))) if excess > 0 else 0


def _deleted_workflows(policy: Policy, at: datetime) -> int:
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


def _unused_versions(_policy: Policy, at: datetime) -> int:
    """Versions that no execution ran on. The current one of a workflow stays, and what may have been it just now."""
    current = exists().where(
        Workflow.id == WorkflowVersion.workflow_id,
        (Workflow.revision == WorkflowVersion.revision) | (Workflow.updated_at > at - UNUSED),
    )
    used = exists().where(WorkflowExecution.workflow_version_id == WorkflowVersion.id)
    return _delete(WorkflowVersion.__table__, WorkflowVersion.created_at < at - UNUSED, ~current, ~used)


def _unused_plans(_policy: Policy, at: datetime) -> int:
    used = exists().where(WorkflowExecution.plan_hash == CompiledPlan.hash)
    return _delete(CompiledPlan.__table__, CompiledPlan.compiled_at < at - UNUSED, ~used)


def _old_requests(_policy: Policy, at: datetime) -> int:
    return idempotency.forget_old(at)


def _expired_tokens(_policy: Policy, at: datetime) -> int:
    return tokens.remove_expired(at)


RULES: tuple[Rule, ...] = (
    _expired,
    _too_many_of_a_workflow,
    _too_many,
    _deleted_workflows,
    _unused_versions,
    _unused_plans,
    _old_requests,
    _expired_tokens,
)
"""Everything that does not stay for ever. What belongs to an execution need not be named: see `parts`."""


def _ended(*conditions: ColumnElement[bool]) -> Select[str]:
    """Ended executions, the oldest first: of which nothing is still to follow, and that no live one has started."""
    parent = aliased(WorkflowExecution)
    is_awaited = exists().where(parent.execution_id == WorkflowExecution.parent_execution_id, parent.status.in_(LIVE))
    is_over = WorkflowExecution.status.not_in(LIVE), ~WorkflowExecution.needs_follow_up, ~is_awaited
    return select(WorkflowExecution.execution_id).where(*is_over, *conditions).order_by(WorkflowExecution.created_at)


def _read(counts: Select[int, int]) -> dict[int, int]:
    db.session.rollback()
    return dict(db.session.execute(counts).all())


def _remove(chosen: Select[str]) -> int:
    """Delete executions: first what belongs to them, however much that is, then their rows."""
    db.session.rollback()
    ids = db.session.scalars(chosen).all()
    if not ids:
        return 0
    for table in parts():
        while True:
            began = time.monotonic()
            if _delete(table, table.c.execution_id.in_(ids)) < ROWS:
                break
            _pause(began)
    with transaction() as session:
        # `Any`: only the result of a statement that changes rows counts them, which the type does not say.
        result: Any = session.execute(delete(WorkflowExecution).where(WorkflowExecution.execution_id.in_(ids)))
        return int(result.rowcount)


def _delete(table: Any, *conditions: ColumnElement[bool]) -> int:
    """Delete some rows of a table, in a transaction of their own; how many those were.

    They are looked for beforehand, while others may write; the conditions have to hold then and still.
    """
    keys = tuple(table.primary_key.columns)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    db.session.rollback()
    found = db.session.execute(select(*keys).where(*conditions).limit(ROWS)).all()
    if not found:
        return 0
    chosen = [row[0] if len(keys) == 1 else tuple(row) for row in found]
    with transaction() as session:
        result: Any = session.execute(delete(table).where(key.in_(chosen), *conditions))
        return int(result.rowcount)
