"""A new execution that reuses what an old one has done, and runs the rest."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.exceptions import RedisError
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from pipelit import clock
from pipelit.engine import recollection, values
from pipelit.engine.copies import Copies
from pipelit.engine.core import codec
from pipelit.engine.core.events import Event, StepIterating, StepReleased, StepSucceeded
from pipelit.engine.core.graph import Json, NodeId, Plan, Scope
from pipelit.engine.core.replay import ENDS
from pipelit.engine.core.reuse import Beginning, around, failed_at, outermost, reusable
from pipelit.engine.core.state import ExecutionStatus, StepId, parse_scope, scope_text
from pipelit.engine.durability import Durability
from pipelit.engine.entries import Checkpoint
from pipelit.engine.groups import Overlap
from pipelit.engine.pages import PAGE, Pages
from pipelit.engine.recollection import Recollection
from pipelit.engine.runtime import engine
from pipelit.engine.store import batched
from pipelit.errors import Invalid, NotFound, WrongState
from pipelit.extensions import db, settings, transaction
from pipelit.models import Blob, ExecutionLog, StepCheckpoint, UserProfile, Workflow, WorkflowExecution
from pipelit.nodes import registry
from pipelit.services import admission, executions, idempotency, plans
from pipelit.services.rights import Access

log = structlog.get_logger(__name__)

AT_ONCE = 200
ITEM = "item"

Inputs = Mapping[str, Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class Retry:
    """What to run again: from a node on, in the iteration `scope`; without one, what has failed or was not reached.

    `inputs` are by node and port what reused nodes are to have left instead of what they did.
    """

    from_node_id: str | None = None
    scope: str | None = None
    inputs: Inputs = field(default_factory=dict)
    workflow_version: str = "original"


@dataclass(frozen=True, slots=True)
class _Base:
    """The execution that is retried, and the plan that the new one runs on."""

    row: WorkflowExecution
    plan: Plan
    plan_hash: str
    version_id: int | None
    known: Recollection
    events: tuple[Event, ...]


def retry(execution_id: str, wanted: Retry, *, by: UserProfile) -> WorkflowExecution:
    """Begin an execution that reuses the finished steps of one that has ended. What is returned is stored: it will run.

    Raises `WrongState` while the old one is under way, and `Invalid` for a node, scope or input that it does not have.
    """
    row = executions.get(execution_id, by=by, needed=Access.EDITOR)
    if row.is_live:
        # Its end may be known already, and on its way to its row.
        with idempotency.preparing():
            engine().drain_journal()
        db.session.refresh(row)
    if row.is_live:
        raise WrongState(f"The execution {execution_id} is {row.status}; cancel it, or wait for its end.")
    base = _base(row, wanted)
    beginning = _beginning(base, wanted)
    kept = reusable(base.plan, base.events, beginning)
    edits = _Edits.of(base, kept, wanted)
    begun = _new_row(base, beginning, edits, by)
    with transaction() as session:
        present = select(Workflow.id).where(Workflow.id == row.workflow_id, Workflow.deleted_at.is_(None))
        if session.scalar(present.with_for_update(read=True)) is None:
            raise NotFound("There is no workflow of this execution any more.")
        # Whoever removes the old one waits for us, or we see it: nothing of what is copied has gone by then.
        kept_row = select(WorkflowExecution.execution_id).where(
            WorkflowExecution.execution_id == row.execution_id, WorkflowExecution.removed_at.is_(None)
        )
        if session.scalar(kept_row.with_for_update(read=True)) is None:
            raise NotFound("There is no such execution any more.")
        idempotency.starts(begun.execution_id)
        session.add(begun)
        session.flush()
        _copy(session, base, begun.execution_id, kept, edits)
    is_final = begun.concurrency_group is not None and row.workflow.overlap == Overlap.DROP
    try:
        if not engine().rebuilder.begin(begun) and is_final:
            return executions.ended(begun.execution_id)
    except (RedisError, DBAPIError):
        log.warning("start_postponed", execution_id=begun.execution_id)
    db.session.rollback()
    return begun


def _base(row: WorkflowExecution, wanted: Retry) -> _Base:
    original = engine().plans.get(row.workflow_id, row.plan_hash)
    known = recollection.load(row.execution_id)
    if wanted.workflow_version != "current":
        return _Base(row, original, row.plan_hash, row.workflow_version_id, known, known.events)
    now = plans.current(row.workflow, row.trigger_node_id)
    same = {
        node
        for node in original.nodes.keys() & now.plan.nodes.keys()
        if original.nodes[node].type == now.plan.nodes[node].type and around(original, node) == around(now.plan, node)
    }
    events = tuple(event for event in known.events if getattr(event, "step", StepId(NodeId(""))).node in same)
    return _Base(row, now.plan, now.plan_hash, now.version_id, known, events)


def _beginning(base: _Base, wanted: Retry) -> Beginning | None:
    """Where to begin: as wanted, with the step that failed, or with what was not reached; or all of what completed."""
    if wanted.from_node_id is None:
        if wanted.scope is not None:
            raise Invalid("scope: name the node as well.", {"scope": ["Send from_node_id with it."]})
        if base.row.status == ExecutionStatus.COMPLETED:
            return Beginning(base.plan.trigger, ())
        failed = failed_at(base.plan, base.events)
        return None if failed is None else Beginning(failed.node, failed.scope)
    node = NodeId(wanted.from_node_id)
    if node not in base.plan.nodes:
        message = f"The execution's trigger does not reach a node '{node}'."
        raise Invalid(f"from_node_id: {message}", {"from_node_id": [message]})
    return Beginning(node, None if wanted.scope is None else _scope(base, node, wanted.scope))


def _scope(base: _Base, node: NodeId, text: str) -> Scope:
    loops = around(base.plan, node)
    try:
        scope = parse_scope(text)
    except ValueError:
        scope = ()
    form = "/".join(f"{loop}:<index>" for loop in loops) or "no scope: it stands in no loop"
    if not scope or tuple(loop for loop, _ in scope) != loops:
        message = f"The node '{node}' has {form}."
        raise Invalid(f"scope: {message}", {"scope": [message]})
    totals = {event.step: event.total for event in base.events if isinstance(event, StepIterating)}
    for depth, (loop, index) in enumerate(scope):
        total = totals.get(StepId(loop, scope[:depth]))
        if total is None or not 0 <= index < total:
            message = f"The loop '{loop}' had no item {index} there."
            raise Invalid(f"scope: {message}", {"scope": [message]})
    return scope


@dataclass(slots=True)
class _Edits:
    """What is put in the place of what was recorded."""

    trigger: Mapping[str, Json] | None = None
    outputs: dict[StepId, Mapping[str, Json]] = field(default_factory=dict)
    items: dict[StepId, tuple[int, Json]] = field(default_factory=dict)

    @classmethod
    def of(cls, base: _Base, kept: Sequence[Event], wanted: Retry) -> "_Edits":
        """Raises `Invalid` for a node that is not reused, and for a port that it does not have."""
        edits, errors = cls(), {}
        scope = parse_scope(wanted.scope) if wanted.scope else ()
        reused = {event.step for event in kept if isinstance(event, StepSucceeded)}
        for name, ports in wanted.inputs.items():
            problem = edits._take(base, reused, scope, NodeId(name), ports)
            if problem is not None:
                errors[f"inputs.{name}"] = [problem]
        if errors:
            path, (message, *_) = next(iter(errors.items()))
            raise Invalid(f"{path}: {message}", errors)
        return edits

    def _take(
        self, base: _Base, reused: set[StepId], scope: Scope, node: NodeId, ports: Mapping[str, Json]
    ) -> str | None:
        """Note one node's edit; what is wrong with it, if something is."""
        if node not in base.plan.nodes:
            return "There is no such node."
        if node == base.plan.trigger:
            self.trigger = {**base.row.trigger_output, **ports}
            return _unknown_port(base, node, ports, base.row.trigger_output)
        depth = len(around(base.plan, node))
        step = StepId(node, scope[:depth])
        if len(scope) > depth and scope[depth][0] == node:
            return self._take_item(step, scope[depth][1], ports)
        if depth > len(scope):
            return "It runs once for each item: name the iteration with scope."
        if step not in reused:
            return "It is not reused, so it makes its own outputs. Edit what it reads instead."
        before = json.loads(_output(base, step))
        self.outputs[step] = {**before, **ports}
        return _unknown_port(base, node, ports, before)

    def _take_item(self, loop: StepId, index: int, ports: Mapping[str, Json]) -> str | None:
        if set(ports) != {ITEM}:
            return f"Of a loop around the node, only '{ITEM}' can be edited."
        if index >= PAGE:
            return f"Only the first {PAGE} items can be edited. Edit the list that the loop was given."
        self.items[loop] = (index, ports[ITEM])
        return None


def _unknown_port(base: _Base, node: NodeId, ports: Mapping[str, Json], before: Mapping[str, Json]) -> str | None:
    known = {*before, *(port.name for port in registry.get(base.plan.nodes[node].type).outputs)}
    unknown = sorted(ports.keys() - known)
    return f"It has no output '{unknown[0]}'; it has {', '.join(sorted(known))}." if unknown else None


def _output(base: _Base, step: StepId) -> str:
    attempts = [attempt for attempt in base.known.rows if attempt[0] == step]
    found = base.known.outputs(attempts)
    return next((found[attempt] for attempt in reversed(attempts) if attempt in found), "{}")


def _new_row(base: _Base, beginning: Beginning | None, edits: _Edits, by: UserProfile) -> WorkflowExecution:
    row = base.row
    step = beginning or Beginning(base.plan.trigger, ())
    outputs = row.trigger_output if edits.trigger is None else edits.trigger
    values.encode_outputs(outputs)
    accepted = clock.now()
    place = admission.place_of(row.workflow, outputs, accepted)
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
        trigger_output=dict(outputs),
        created_at=accepted,
        max_execution_seconds=row.workflow.max_execution_seconds,
        placement=row.workflow.placement or settings().placement,
        # It finds steps recorded that come only after others have run again.
        durability=Durability.SYNC,
        concurrency_group=place.group if place else None,
        retried_from_id=row.execution_id,
        retried_from_step=str(StepId(step.node, step.scope or ())),
    )


def _copy(session: Session, base: _Base, execution_id: str, kept: Sequence[Event], edits: _Edits) -> None:
    """Write what is reused as the new execution's own: logs, checkpoints, and the blobs they refer to.

    Of a loop that need not run again its results say it all; its iterations stay where they are.
    """
    heard = outermost(kept)
    old = base.row.execution_id
    loops = [(event.step, event.attempt) for event in heard if isinstance(event, StepIterating)]
    lists = {Pages.of_items(old, *loop).name: Pages.of_items(execution_id, *loop).name for loop in loops}
    copies = Copies(old, execution_id, lists)
    attempts = [(event.step, event.attempt) for event in heard if isinstance(event, ENDS)]
    ids = [base.known.rows[attempt].id for attempt in attempts if attempt in base.known.rows]
    for some in batched(ids, AT_ONCE):
        found = session.scalars(select(ExecutionLog).where(ExecutionLog.id.in_(some)).order_by(ExecutionLog.id)).all()
        session.execute(insert(ExecutionLog), [_log(each, execution_id, copies, edits) for each in found])
    noted = [event for event in heard if isinstance(event, StepIterating | StepReleased)]
    checkpoints = [_checkpoint(base, event, execution_id, copies, edits) for event in noted]
    if checkpoints:
        session.execute(insert(StepCheckpoint), checkpoints)
    blobs = [{"id": name, "execution_id": execution_id, "content": text} for name, text in copies.contents.items()]
    for some_blobs in batched(blobs, AT_ONCE):
        session.execute(insert(Blob), list(some_blobs))


def _log(row: ExecutionLog, execution_id: str, copies: Copies, edits: _Edits) -> dict[str, Any]:
    edited = edits.outputs.get(StepId(NodeId(row.node_id), parse_scope(row.scope))) if row.status == "success" else None
    details: dict[str, Json] = {**json.loads(row.details or "{}"), "reused_from": row.execution_id}
    output = row.output
    if edited is not None:
        details["edited"] = True
        output = values.encode_outputs(edited)
    return {
        "execution_id": execution_id,
        "node_id": row.node_id,
        "component_type": row.component_type,
        "scope": row.scope,
        "attempt": row.attempt,
        "status": row.status,
        "route": row.route,
        "input": row.input,
        "output": copies.rewritten(output),
        "error": row.error,
        "error_code": row.error_code,
        "details": codec.dump_json(details),
        "timestamp": row.timestamp,
    }


def _checkpoint(
    base: _Base, event: StepIterating | StepReleased, execution_id: str, copies: Copies, edits: _Edits
) -> dict[str, Any]:
    step = event.step
    if isinstance(event, StepIterating):
        attempt, kind = event.attempt, Checkpoint.ITERATING
    else:
        attempt, kind = 0, Checkpoint.RELEASED_AFTER if event.is_after else Checkpoint.RELEASED_BEFORE
    content = copies.rewritten(base.known.checkpoints[(step, attempt), kind])
    if content is not None and step in edits.items and kind is Checkpoint.ITERATING:
        kept, (index, item) = json.loads(content), edits.items[step]
        kept["items"][index] = item
        content = codec.dump_json(kept)
    return {
        "execution_id": execution_id,
        "node_id": step.node,
        "scope": scope_text(step.scope),
        "attempt": attempt,
        "kind": str(kind),
        "content": content,
    }
