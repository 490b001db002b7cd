"""Executions: started, watched, stopped, and put away."""

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Table, bindparam, insert, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, defer, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from pipelit import clock
from pipelit.engine import endings, values
from pipelit.engine.coordinator import Start
from pipelit.engine.core.events import Cancelled
from pipelit.engine.core.graph import Json
from pipelit.engine.core.state import ExecutionStatus
from pipelit.engine.groups import Overlap
from pipelit.engine.runtime import engine
from pipelit.errors import NotFound, WrongState
from pipelit.extensions import db, settings, transaction
from pipelit.models import UserProfile, Workflow, WorkflowExecution, WorkflowNode
from pipelit.nodes import registry
from pipelit.nodes.base import TriggerEvent, TriggerNode
from pipelit.services import admission, ancestry, disposal, idempotency, node_config, plans, rights
from pipelit.services.ancestry import Origin
from pipelit.services.paging import Listing, Page, listing
from pipelit.services.rights import Access

log = structlog.get_logger(__name__)

# Statements on the tables themselves, put together once: the unit of work costs more than all the rest of a start.
_WORKFLOWS, _EXECUTIONS = (cast(Table, model.__table__) for model in (Workflow, WorkflowExecution))
_PRESENT = (
    select(_WORKFLOWS.c.id)
    .where(_WORKFLOWS.c.id == bindparam("id"), _WORKFLOWS.c.deleted_at.is_(None))
    .with_for_update(read=True)
)
_INSERT = insert(_EXECUTIONS)

FINAL_ROW_SECONDS = 2.0
"""How long an answer waits for the final row of an execution that was cancelled."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of executions is narrowed down to; None means everything."""

    workflow_slug: str | None = None
    status: str | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None


def start(
    slug: str,
    *,
    by: UserProfile,
    trigger_node_id: str | None = None,
    payload: Mapping[str, Json] | None = None,
    text: str | None = None,
    execution_id: str | None = None,
) -> WorkflowExecution:
    """Run a workflow by hand from one of its triggers. What is returned is stored: it will run."""
    workflow = rights.find(slug, by, Access.EDITOR)
    trigger = plans.choose_trigger(workflow, trigger_node_id)
    event = TriggerEvent("manual", {"payload": dict(payload or {}), "text": text or ""})
    return begin(workflow, trigger, event, by=by, execution_id=execution_id)


def begin(
    workflow: Workflow,
    trigger_node_id: str,
    event: TriggerEvent,
    *,
    by: UserProfile | None = None,
    execution_id: str | None = None,
    reply_to: str | None = None,
    config: Any = None,
    origin: Origin | None = None,
) -> WorkflowExecution:
    """Accept an event for a trigger: the row is committed first, then the engine is told.

    If the broker is away the execution stays `pending`, and maintenance starts it when the broker is back. Raises
    `InvalidGraph` with every problem of what the trigger reaches. `execution_id` may be chosen beforehand, by whoever
    wants to listen to the execution from its beginning, and `reply_to` is where the engine tells them its end, once;
    `config` is the trigger's, secrets included, if they have it; `origin` is the execution that started this one, if
    one did. The row returned is a copy, in no session.
    """
    compiled = plans.current(workflow, trigger_node_id)
    node_type = registry.get(compiled.plan.nodes[compiled.plan.trigger].type)
    assert isinstance(node_type, TriggerNode), "a plan starts at a trigger"
    if config is None:
        config = node_type.configure(_stored_config(workflow, trigger_node_id))
    outputs = node_type.emit(config, event)
    values.encode_outputs(outputs)
    accepted = clock.now()
    # Taken out before the transaction, which has every row read afresh that is touched in it, nodes and edges too.
    begun = Start(
        execution_id=execution_id or str(uuid.uuid4()),
        plan_hash=compiled.plan_hash,
        workflow_id=workflow.id,
        slug=workflow.slug,
        trigger_output=outputs,
        max_seconds=workflow.max_execution_seconds,
        reply_to=reply_to,
        placement=workflow.placement or settings().placement,
        durability=workflow.durability,
        place=admission.place_of(workflow, outputs, accepted),
    )
    columns: dict[str, Any] = {
        "execution_id": begun.execution_id,
        "workflow_id": begun.workflow_id,
        "workflow_version_id": compiled.version_id,
        "plan_hash": compiled.plan_hash,
        "trigger_node_id": trigger_node_id,
        "user_profile_id": by.id if by else None,
        "status": "pending",
        "trigger": event.kind,
        "trigger_payload": dict(event.payload),
        "trigger_output": outputs,
        "created_at": accepted,
        "max_execution_seconds": begun.max_seconds,
        "placement": begun.placement,
        "durability": begun.durability,
        "concurrency_group": begun.place.group if begun.place else None,
        **_descent(origin),
    }
    with transaction() as session:
        _refuse_deleted(session, begun)
        if origin is not None:
            ancestry.attach(session, origin)
        idempotency.starts(begun.execution_id)
        session.connection().execute(_INSERT, columns)
    try:
        has_begun = engine().coordinator.start(begun)
    except (RedisError, DBAPIError):
        log.warning("start_postponed", execution_id=begun.execution_id)
        has_begun = None
    if has_begun is False and begun.place is not None and begun.place.overlap == Overlap.DROP:
        # Not to wait is final: the answer says so.
        columns |= _end_of(begun.execution_id)
    row = WorkflowExecution(**columns)
    set_committed_value(row, "workflow", workflow)
    return row


def _end_of(execution_id: str) -> dict[str, Any]:
    """The columns that say how an execution ended that is not to begin."""
    found = ended(execution_id)
    return {name: getattr(found, name) for name in ("status", "completed_at", "error_message", "error_code")}


def _descent(origin: Origin | None) -> dict[str, Any]:
    """The columns that say what started an execution."""
    if origin is None:
        return {}
    step = None if origin.step is None else str(origin.step)
    return {
        "parent_execution_id": origin.execution_id,
        "parent_node_id": origin.node_id,
        "parent_step": step,
        "depth": origin.depth,
        # Somebody waits to hear of its end, and may have to hear of it again after any loss.
        "needs_follow_up": step is not None,
    }


def _refuse_deleted(session: Session, begun: Start) -> None:
    """Whoever deletes the workflow waits for us, or we see that it is gone: nothing begins that nobody can find."""
    if session.connection().scalar(_PRESENT, {"id": begun.workflow_id}) is None:
        raise NotFound(f"There is no workflow '{begun.slug}' any more.")


def _stored_config(workflow: Workflow, node_id: str) -> dict[str, Json]:
    """A trigger's configuration with its secrets, which plans do without."""
    node = db.session.scalars(
        select(WorkflowNode).where(WorkflowNode.workflow_id == workflow.id, WorkflowNode.node_id == node_id)
    ).one()
    return registry.current_values(node.config) | node_config.secrets_of(node.config)


def get(execution_id: str, *, by: UserProfile | None, needed: Access = Access.VIEWER) -> WorkflowExecution:
    """One execution, if its workflow is for the user to see."""
    row = db.session.get(WorkflowExecution, execution_id)
    if row is None or row.is_removed:
        raise NotFound(f"There is no execution '{execution_id[:36]}'.")
    if by is not None:
        known = Workflow.known_to(by).where(Workflow.id == row.workflow_id).with_only_columns(Workflow.id)
        if db.session.scalar(known) is None:
            raise NotFound(f"There is no execution '{execution_id[:36]}'.")
        rights.require(row.workflow, by, needed)
    return row


def detail(execution_id: str, *, by: UserProfile | None) -> WorkflowExecution:
    """One execution with its logs and version at hand."""
    get(execution_id, by=by)
    options = (selectinload(WorkflowExecution.logs), selectinload(WorkflowExecution.version))
    query = select(WorkflowExecution).where(WorkflowExecution.execution_id == execution_id).options(*options)
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def children(execution_id: str) -> Sequence[WorkflowExecution]:
    """The executions that an execution started, oldest first."""
    started = WorkflowExecution.parent_execution_id == execution_id, WorkflowExecution.removed_at.is_(None)
    mine = select(WorkflowExecution).where(*started)
    return db.session.scalars(mine.order_by(WorkflowExecution.created_at)).all()


def listed(filters: Filters, page: Page, *, by: UserProfile) -> Listing[WorkflowExecution]:
    """Executions of the workflows a user may see, newest first, without their logs."""
    visible = Workflow.known_to(by).with_only_columns(Workflow.id)
    is_kept = WorkflowExecution.removed_at.is_(None)
    query = select(WorkflowExecution).where(WorkflowExecution.workflow_id.in_(visible), is_kept)
    if filters.workflow_slug is not None:
        query = query.where(WorkflowExecution.workflow.has(Workflow.slug == filters.workflow_slug))
    if filters.status is not None:
        query = query.where(WorkflowExecution.status == filters.status)
    if filters.trigger is not None:
        query = query.where(WorkflowExecution.trigger == filters.trigger)
    if filters.since is not None:
        query = query.where(WorkflowExecution.created_at >= filters.since)
    if filters.until is not None:
        query = query.where(WorkflowExecution.created_at < filters.until)
    if filters.search is not None:
        wanted = filters.search
        query = query.where(
            or_(
                WorkflowExecution.execution_id.startswith(wanted, autoescape=True),
                WorkflowExecution.error_message.icontains(wanted, autoescape=True),
                WorkflowExecution.workflow.has(Workflow.name.icontains(wanted, autoescape=True)),
            )
        )
    order = (WorkflowExecution.created_at.desc(), WorkflowExecution.execution_id)
    # What went in and came out may be large, and a list shows neither.
    left_out = (defer(WorkflowExecution.trigger_payload), defer(WorkflowExecution.trigger_output))
    return listing(query.order_by(*order).options(*left_out, defer(WorkflowExecution.final_output)), page)


def cancel(execution_id: str, *, by: UserProfile | None) -> WorkflowExecution:
    """Stop an execution. Raises `WrongState` if it is over already."""
    if not get(execution_id, by=by, needed=Access.EDITOR).is_live:
        _refuse_ended(execution_id)
    if not stop(execution_id):
        with idempotency.preparing():
            engine().drain_journal()
        _refuse_ended(execution_id)
    return ended(execution_id)


def stop(execution_id: str) -> bool:
    """Cancel an execution, whoever asks. False if it has ended; its final row may follow a moment later."""
    while not engine().coordinator.tell(execution_id, Cancelled()):
        if _cancel_without_state(execution_id):
            return True
        if engine().store.load(execution_id) is None:
            return False
        # It began in between, so now the engine knows of it.
    return True


def remove(execution_ids: Collection[str], *, by: UserProfile) -> None:
    """Delete ended executions. Raises `WrongState` if one of them is live.

    They are gone at once for everybody who asks; what was kept of them is deleted by the sweep of the next minute.
    """
    for execution_id in execution_ids:
        get(execution_id, by=by, needed=Access.EDITOR)
    with transaction() as session:
        disposal.mark(session, execution_ids, clock.now())
        chosen = WorkflowExecution.execution_id.in_(execution_ids)
        live = session.scalar(select(WorkflowExecution.execution_id).where(chosen, disposal.IS_OPEN).limit(1))
        if live is not None:
            raise WrongState(f"The execution {live} is still running, or ended this very moment; cancel it, or wait.")


def _cancel_without_state(execution_id: str) -> bool:
    """Cancel an execution that the engine knows nothing of: it has not begun, or its state was lost with the broker's.

    False if the engine does know it, or it has ended meanwhile.
    """
    group = endings.end_unknown(engine().store, execution_id, ExecutionStatus.CANCELLED)
    if group is None:
        return False
    try:
        endings.tell_end(engine().redis, execution_id)
        if group:
            engine().coordinator.groups.leave(group, execution_id)
            engine().turns.start_next(group)
        engine().follow_up([execution_id])
    except RedisError:
        # The sweeps make up for the slot and the follow-up; the row says the rest.
        log.warning("end_not_told", execution_id=execution_id)
    return True


def ended(execution_id: str) -> WorkflowExecution:
    """The execution with its final row, which somebody else may be writing just now."""
    until = time.monotonic() + FINAL_ROW_SECONDS
    while True:
        engine().drain_journal()
        row = fresh(execution_id)
        if not row.is_live or time.monotonic() > until:
            return row
        time.sleep(0.02)


def _refuse_ended(execution_id: str) -> None:
    row = fresh(execution_id)
    raise WrongState(f"The execution {execution_id} is {row.status} already.")


def fresh(execution_id: str) -> WorkflowExecution:
    """An execution as SQL has it this moment."""
    db.session.rollback()
    row = db.session.get(WorkflowExecution, execution_id, populate_existing=True)
    if row is None or row.is_removed:
        raise NotFound(f"There is no execution '{execution_id}'.")
    return row
