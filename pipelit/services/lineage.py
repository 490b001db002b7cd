"""What is remembered of an execution, together with what stayed with those whose steps it reuses.

A retry copies of a loop that has ended only its results. If an iteration of that loop is to run again later, what the
others did is found where it was done.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import select

from pipelit.engine import recollection
from pipelit.engine.core.events import Event, StepIterating, StepSucceeded
from pipelit.engine.core.graph import NodeId, Plan
from pipelit.engine.core.reuse import around, subject
from pipelit.engine.core.state import StepId, scope_text
from pipelit.engine.entries import Checkpoint
from pipelit.engine.recollection import Attempt, Recollection
from pipelit.extensions import db
from pipelit.models import ExecutionLog, WorkflowExecution

Kept = tuple[Attempt, str]
"""The name of a checkpoint: of which attempt it is, and its kind."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """All that is known, and the executions in which rows and checkpoints stand that are not the execution's own.

    `gone` are the loops whose iterations stayed with an execution that is not stored any more.
    """

    execution_id: str
    known: Recollection
    homes: Mapping[Kept, str] = field(default_factory=dict)
    hosts: Mapping[Attempt, str] = field(default_factory=dict)
    gone: frozenset[StepId] = frozenset()

    def home(self, kept: Kept) -> str:
        """The execution to which a checkpoint, and what it refers to, belongs."""
        return self.homes.get(kept, self.execution_id)

    def host(self, attempt: Attempt) -> str:
        """The execution in which the row of an attempt stands."""
        return self.hosts.get(attempt, self.execution_id)


def load(execution_id: str, plan: Plan, node: NodeId | None) -> Lineage:
    """What is remembered; if `node` is to run again inside of loops, of their iterations too, wherever they are."""
    found = Lineage(execution_id, recollection.load(execution_id))
    if node is None or node not in plan.nodes:
        return found
    for loop in around(plan, node):
        for ended in _closed(found.known, loop):
            found = _joined(found, ended, _inside(found.host((ended.step, ended.attempt)), ended))
    return found


def _closed(known: Recollection, loop: NodeId) -> list[StepSucceeded]:
    """The ends of a loop of which nothing else is known here."""
    open_ones = {event.step for event in known.events if isinstance(event, StepIterating)}
    ends = (event for event in known.events if isinstance(event, StepSucceeded) and event.step.node == loop)
    return [event for event in ends if event.step not in open_ones]


def _inside(execution_id: str, ended: StepSucceeded) -> tuple[str, Recollection] | None:
    """What was done in a loop, and by which execution: the first one behind this that had not found it done."""
    origin = _reused_from(execution_id, ended)
    while origin is not None:
        known = recollection.load(origin)
        if any(isinstance(event, StepIterating) and event.step == ended.step for event in known.events):
            return origin, known
        origin = _reused_from(origin, ended)
    return None


def _reused_from(execution_id: str, ended: StepSucceeded) -> str | None:
    """The execution from which a step's end was copied, if there still is one."""
    step = ended.step
    mine = select(ExecutionLog.details).where(
        ExecutionLog.execution_id == execution_id,
        ExecutionLog.node_id == step.node,
        ExecutionLog.scope == scope_text(step.scope),
        ExecutionLog.attempt == ended.attempt,
    )
    origin = json.loads(db.session.scalar(mine) or "{}").get("reused_from")
    there = select(WorkflowExecution.execution_id).where(
        WorkflowExecution.execution_id == origin, WorkflowExecution.removed_at.is_(None)
    )
    return db.session.scalar(there)


def _joined(found: Lineage, ended: StepSucceeded, inside: tuple[str, Recollection] | None) -> Lineage:
    if inside is None:
        return replace(found, gone=found.gone | {ended.step})
    origin, other = inside
    known, loop = found.known, ended.step
    events = [event for event in other.events if _is_within(event, loop)]
    checkpoints = {
        kept: content
        for kept, content in other.checkpoints.items()
        if _is_in(kept[0][0], loop) or (kept[0][0] == loop and kept[1] == Checkpoint.ITERATING)
    }
    rows = {attempt: place for attempt, place in other.rows.items() if _is_in(attempt[0], loop)}
    return replace(
        found,
        known=Recollection((*known.events, *events), {**rows, **known.rows}, {**checkpoints, **known.checkpoints}),
        homes={**found.homes, **dict.fromkeys(checkpoints, origin)},
        hosts={**found.hosts, **dict.fromkeys(rows, origin)},
    )


def _is_within(event: Event, loop: StepId) -> bool:
    """Whether an event is about the inside of a loop, or about its items."""
    step = subject(event)
    return step is not None and (_is_in(step, loop) or (step == loop and isinstance(event, StepIterating)))


def _is_in(step: StepId, loop: StepId) -> bool:
    depth = len(loop.scope)
    return len(step.scope) > depth and StepId(step.scope[depth][0], step.scope[:depth]) == loop
