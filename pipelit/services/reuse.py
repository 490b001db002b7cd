"""What a new execution reuses of an old one: found, checked against what is wanted, and copied piece by piece."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from pipelit.engine import blobs, values
from pipelit.engine.copies import Copies
from pipelit.engine.core import codec
from pipelit.engine.core.events import Event, StepIterating, StepReleased, StepSucceeded
from pipelit.engine.core.graph import Json, NodeId, Plan, Scope
from pipelit.engine.core.replay import ENDS
from pipelit.engine.core.reuse import Beginning, around, failed_at, outermost, reusable, subject
from pipelit.engine.core.state import ExecutionStatus, StepId, parse_scope, scope_text
from pipelit.engine.entries import Checkpoint
from pipelit.engine.pages import PAGE, Pages
from pipelit.engine.rows import insert_once
from pipelit.engine.runtime import engine
from pipelit.engine.store import batched
from pipelit.errors import Invalid
from pipelit.models import ExecutionLog, StepCheckpoint, WorkflowExecution
from pipelit.nodes import registry
from pipelit.services import lineage, plans
from pipelit.services.lineage import Lineage

AT_ONCE = 200
"""Rows copied together."""

ITEM = "item"

Inputs = Mapping[str, Mapping[str, Json]]
Piece = Callable[[Session], None]
"""A part of the copies, to be written in one transaction. It may be written twice."""

COPIED = (
    ExecutionLog.execution_id,
    ExecutionLog.node_id,
    ExecutionLog.component_type,
    ExecutionLog.scope,
    ExecutionLog.attempt,
    ExecutionLog.status,
    ExecutionLog.route,
    ExecutionLog.input,
    ExecutionLog.output,
    ExecutionLog.error,
    ExecutionLog.error_code,
    ExecutionLog.details,
    ExecutionLog.timestamp,
)
"""What of a row another execution may take over: all but what the attempt itself cost."""

_LOGS, _CHECKPOINTS = (cast(Table, model.__table__) for model in (ExecutionLog, StepCheckpoint))


@dataclass(frozen=True, slots=True)
class Retry:
    """What to run again: from a node on, in the iteration `scope`; without one, what has failed or was not reached.

    `inputs` are by node and port what reused nodes are to have left instead of what they did.
    """

    from_node_id: str | None = None
    scope: str | None = None
    inputs: Inputs = field(default_factory=dict)
    workflow_version: str = "original"

    def kept(self) -> str:
        """As JSON text, for whoever carries it out later."""
        return codec.dump_json(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Retry":
        """Read what `kept` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Base:
    """The execution that is retried, and the plan that the new one runs on."""

    row: WorkflowExecution
    plan: Plan
    plan_hash: str
    version_id: int | None
    original: Plan

    @classmethod
    def of(cls, row: WorkflowExecution, wanted: Retry) -> "Base":
        """Raises `Invalid` for a node that the plan does not have, and for a scope that is not one of the node's."""
        original = engine().plans.get(row.workflow_id, row.plan_hash)
        if wanted.workflow_version == "current":
            now = plans.current(row.workflow, row.trigger_node_id)
            base = cls(row, now.plan, now.plan_hash, now.version_id, original)
        else:
            base = cls(row, original, row.plan_hash, row.workflow_version_id, original)
        base._check(wanted)
        return base

    def events(self, known: Sequence[Event]) -> tuple[Event, ...]:
        """What was recorded of nodes that are still there, of the same type and in the same loops."""
        if self.plan is self.original:
            return tuple(known)
        before, now = self.original, self.plan
        same = {
            node
            for node in before.nodes.keys() & now.nodes.keys()
            if before.nodes[node].type == now.nodes[node].type and around(before, node) == around(now, node)
        }
        return tuple(event for event in known if (step := subject(event)) is None or step.node in same)

    def _check(self, wanted: Retry) -> None:
        if wanted.from_node_id is None:
            if wanted.scope is not None:
                raise Invalid("scope: name the node as well.", {"scope": ["Send from_node_id with it."]})
            return
        node = NodeId(wanted.from_node_id)
        if node not in self.plan.nodes:
            message = f"The execution's trigger does not reach a node '{node}'."
            raise Invalid(f"from_node_id: {message}", {"from_node_id": [message]})
        if wanted.scope is None:
            return
        loops = around(self.plan, node)
        try:
            scope = parse_scope(wanted.scope)
        except ValueError:
            scope = ()
        form = "/".join(f"{loop}:<index>" for loop in loops) or "no scope: it stands in no loop"
        if not scope or tuple(loop for loop, _ in scope) != loops:
            message = f"The node '{node}' has {form}."
            raise Invalid(f"scope: {message}", {"scope": [message]})


@dataclass(frozen=True, slots=True)
class Reuse:
    """What is reused, from where on the new execution runs, and what is put in the place of what was recorded."""

    base: Base
    found: Lineage
    beginning: Beginning | None
    kept: Sequence[Event]
    edits: "_Edits"

    @property
    def trigger_output(self) -> Mapping[str, Json]:
        """What the trigger is to have given."""
        return self.base.row.trigger_output if self.edits.trigger is None else self.edits.trigger

    @property
    def first_step(self) -> str:
        """The step that the new execution begins with, as text."""
        begins = self.beginning or Beginning(self.base.plan.trigger, ())
        return str(StepId(begins.node, begins.scope or ()))

    def pieces(self, execution_id: str) -> Iterator[Piece]:
        """Write what is reused as the new execution's own: logs, checkpoints, and the blobs they refer to.

        Of a loop that need not run again its results say it all; its iterations stay where they are.
        """
        heard = outermost(self.kept)
        copies = _Sources(self.found, execution_id, heard)
        attempts = [(event.step, event.attempt) for event in heard if isinstance(event, ENDS)]
        ids = [self.found.known.rows[attempt].id for attempt in attempts if attempt in self.found.known.rows]
        for some in batched(ids, AT_ONCE):
            yield _logs(some, execution_id, copies, self.edits)
        noted = [event for event in heard if isinstance(event, StepIterating | StepReleased)]
        for some_noted in batched(noted, AT_ONCE):
            yield _checkpoints(some_noted, self.found, execution_id, copies, self.edits)


def prepare(row: WorkflowExecution, wanted: Retry) -> Reuse:
    """Find what of an execution that has ended may be reused. Raises `Invalid` for what it does not have.

    All that was recorded of it is read: of an execution with many steps that takes seconds.
    """
    base = Base.of(row, wanted)
    node = None if wanted.from_node_id is None else NodeId(wanted.from_node_id)
    found = lineage.load(row.execution_id, base.original, node)
    events = base.events(found.known.events)
    beginning = _beginning(base, found, events, wanted)
    kept = reusable(base.plan, events, beginning)
    edits = _Edits.of(base, found, kept, wanted)
    reuse = Reuse(base, found, beginning, kept, edits)
    values.encode_outputs(reuse.trigger_output)
    return reuse


def _beginning(base: Base, found: Lineage, events: Sequence[Event], wanted: Retry) -> Beginning | None:
    """Where to begin: as wanted, with the step that failed, or with what was not reached; or all of what completed."""
    if wanted.from_node_id is not None:
        node = NodeId(wanted.from_node_id)
        return Beginning(node, None if wanted.scope is None else _scope(found, events, wanted.scope))
    if base.row.status == ExecutionStatus.COMPLETED:
        return Beginning(base.plan.trigger, ())
    failed = failed_at(base.plan, events)
    return None if failed is None else Beginning(failed.node, failed.scope)


def _scope(found: Lineage, events: Sequence[Event], text: str) -> Scope:
    scope = parse_scope(text)
    totals = {event.step: event.total for event in events if isinstance(event, StepIterating)}
    for depth, (loop, index) in enumerate(scope):
        step = StepId(loop, scope[:depth])
        total = totals.get(step)
        if total is None or not 0 <= index < total:
            message = f"The loop '{loop}' had no item {index} there."
            if step in found.gone:
                message = f"The iterations of '{loop}' are not stored any more. Without scope all of them run again."
            raise Invalid(f"scope: {message}", {"scope": [message]})
    return scope


@dataclass(slots=True)
class _Edits:
    """What is put in the place of what was recorded."""

    trigger: Mapping[str, Json] | None = None
    outputs: dict[StepId, Mapping[str, Json]] = field(default_factory=dict)
    items: dict[StepId, tuple[int, Json]] = field(default_factory=dict)

    @classmethod
    def of(cls, base: Base, found: Lineage, kept: Sequence[Event], wanted: Retry) -> "_Edits":
        """Raises `Invalid` for a node that is not reused, and for a port that it does not have."""
        edits, errors = cls(), {}
        scope = parse_scope(wanted.scope) if wanted.scope else ()
        reused = {event.step for event in kept if isinstance(event, StepSucceeded)}
        for name, ports in wanted.inputs.items():
            problem = edits._take(_Known(base, found, reused), scope, NodeId(name), ports)
            if problem is not None:
                errors[f"inputs.{name}"] = [problem]
        if errors:
            path, (message, *_) = next(iter(errors.items()))
            raise Invalid(f"{path}: {message}", errors)
        return edits

    def _take(self, known: "_Known", scope: Scope, node: NodeId, ports: Mapping[str, Json]) -> str | None:
        """Note one node's edit; what is wrong with it, if something is."""
        base = known.base
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
        if step not in known.reused:
            return "It is not reused, so it makes its own outputs. Edit what it reads instead."
        before = json.loads(_output(known.found, step))
        self.outputs[step] = {**before, **ports}
        return _unknown_port(base, node, ports, before)

    def _take_item(self, loop: StepId, index: int, ports: Mapping[str, Json]) -> str | None:
        if set(ports) != {ITEM}:
            return f"Of a loop around the node, only '{ITEM}' can be edited."
        if index >= PAGE:
            return f"Only the first {PAGE} items can be edited. Edit the list that the loop was given."
        self.items[loop] = (index, ports[ITEM])
        return None


@dataclass(frozen=True, slots=True)
class _Known:
    """What edits are checked against; `reused` are the steps whose outputs may be edited."""

    base: Base
    found: Lineage
    reused: set[StepId]


def _unknown_port(base: Base, node: NodeId, ports: Mapping[str, Json], before: Mapping[str, Json]) -> str | None:
    known = {*before, *(port.name for port in registry.get(base.plan.nodes[node].type).outputs)}
    unknown = sorted(ports.keys() - known)
    return f"It has no output '{unknown[0]}'; it has {', '.join(sorted(known))}." if unknown else None


def _output(found: Lineage, step: StepId) -> str:
    attempts = [attempt for attempt in found.known.rows if attempt[0] == step]
    outputs = found.known.outputs(attempts)
    return next((outputs[attempt] for attempt in reversed(attempts) if attempt in outputs), "{}")


class _Sources:
    """The copies that are made, of the blobs of each execution that something is reused of."""

    def __init__(self, found: Lineage, execution_id: str, heard: Sequence[Event]) -> None:
        self._copy = execution_id
        self._lists: dict[str, dict[str, str]] = {}
        self._copies: dict[str, Copies] = {}
        for event in heard:
            if isinstance(event, StepIterating):
                loop = event.step, event.attempt
                home = found.home((loop, Checkpoint.ITERATING))
                name = Pages.of_items(home, *loop).name
                self._lists.setdefault(home, {})[name] = Pages.of_items(execution_id, *loop).name

    def of(self, origin: str) -> Copies:
        """The copies of one execution's blobs."""
        if origin not in self._copies:
            self._copies[origin] = Copies(origin, self._copy, self._lists.get(origin, {}))
        return self._copies[origin]

    def write(self, session: Session) -> None:
        """Write those that were made since the last time."""
        for copies in self._copies.values():
            made = copies.take()
            rows = [{"id": name, "execution_id": self._copy, "content": content} for name, content in made.items()]
            for some in batched(rows, AT_ONCE):
                insert_once(session.connection(), blobs.TABLE, some)


def _logs(ids: Sequence[int], execution_id: str, copies: _Sources, edits: _Edits) -> Piece:
    def write(session: Session) -> None:
        query = select(*COPIED).where(ExecutionLog.id.in_(ids)).order_by(ExecutionLog.id)
        rows = [_log(row, execution_id, copies.of(row.execution_id), edits) for row in session.execute(query)]
        insert_once(session.connection(), _LOGS, rows)
        copies.write(session)

    return write


def _checkpoints(
    events: Sequence[StepIterating | StepReleased],
    found: Lineage,
    execution_id: str,
    copies: _Sources,
    edits: _Edits,
) -> Piece:
    def write(session: Session) -> None:
        rows = [_checkpoint(event, found, execution_id, copies, edits) for event in events]
        insert_once(session.connection(), _CHECKPOINTS, rows)
        copies.write(session)

    return write


def _log(row: Any, execution_id: str, copies: Copies, edits: _Edits) -> dict[str, Any]:
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
        "metadata": codec.dump_json(details),
        "timestamp": row.timestamp,
    }


def _checkpoint(
    event: StepIterating | StepReleased, found: Lineage, execution_id: str, copies: _Sources, edits: _Edits
) -> dict[str, Any]:
    step = event.step
    if isinstance(event, StepIterating):
        attempt, kind = event.attempt, Checkpoint.ITERATING
    else:
        attempt, kind = 0, Checkpoint.RELEASED_AFTER if event.is_after else Checkpoint.RELEASED_BEFORE
    kept = (step, attempt), str(kind)
    content = copies.of(found.home(kept)).rewritten(found.known.checkpoints[kept])
    if content is not None and step in edits.items and kind is Checkpoint.ITERATING:
        noted, (index, item) = json.loads(content), edits.items[step]
        noted["items"][index] = item
        content = codec.dump_json(noted)
    return {
        "execution_id": execution_id,
        "node_id": step.node,
        "scope": scope_text(step.scope),
        "attempt": attempt,
        "kind": str(kind),
        "content": content,
    }
