"""What of a recorded execution another one may go on from. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelit.engine.core.commands import Finish
from pipelit.engine.core.events import (
    Cancelled,
    Event,
    Started,
    StepFailed,
    StepIterating,
    StepLost,
    StepResumed,
    StepSucceeded,
    StepSuspended,
    TimedOut,
)
from pipelit.engine.core.graph import NodeId, Plan, Scope
from pipelit.engine.core.replay import replay
from pipelit.engine.core.state import ExecutionStatus, State, StepId


@dataclass(frozen=True, slots=True)
class Beginning:
    """The node that is to run anew: in one scope, or, with None, in every iteration around it."""

    node: NodeId
    scope: Scope | None


def failed_at(plan: Plan, recorded: Sequence[Event]) -> StepId | None:
    """The step with which a recorded execution failed, deep inside of loops; None if it did not fail."""
    replayed = replay(plan, State(), list(_reopened(recorded)))
    commands = (command for heard in replayed.heard for command in heard.commands)
    return next(
        (c.step for c in commands if isinstance(c, Finish) and c.status is ExecutionStatus.FAILED),
        None,
    )


def reusable(plan: Plan, recorded: Sequence[Event], beginning: Beginning | None) -> list[Event]:
    """What was recorded of steps that need not run again when `beginning` does, and all that follows from it.

    A loop around it keeps its items and its other iterations. Nothing that waits is kept: it waits anew.
    """
    events: list[Event] = [event for event in _reopened(recorded) if not isinstance(event, StepSuspended)]
    if beginning is None:
        return events
    if beginning.node == plan.trigger:
        return []
    levels = list(_levels(plan, beginning))
    return [event for event in events if not any(level.redoes(event) for level in levels)]


def outermost(events: Sequence[Event]) -> list[Event]:
    """Without the insides, and the items, of loops that have ended: their ends say it all."""
    ended = {event.step for event in events if isinstance(event, StepSucceeded)}
    return [event for event in events if not _is_within(event, ended)]


def _is_within(event: Event, ended: set[StepId]) -> bool:
    step = subject(event)
    if step is None:
        return False
    owners = (StepId(loop, step.scope[:depth]) for depth, (loop, _) in enumerate(step.scope))
    return any(owner in ended for owner in owners) or (isinstance(event, StepIterating) and step in ended)


def around(plan: Plan, node: NodeId) -> tuple[NodeId, ...]:
    """The loops a node stands in, outermost first."""
    loops: list[NodeId] = []
    loop = plan.nodes[node].loop
    while loop is not None:
        loops.append(loop)
        loop = plan.nodes[loop].loop
    return tuple(reversed(loops))


def subject(event: Event) -> StepId | None:
    """The step that an event is about, if it is about one."""
    return None if isinstance(event, Started | Cancelled | TimedOut) else event.step


@dataclass(frozen=True, slots=True)
class _Level:
    """The top level, or the body of a loop around the beginning, with the nodes of it that run anew.

    `loop` is the one that goes on with more iterations, if this is not where the beginning stands itself.
    """

    depth: int
    scope: Scope | None
    nodes: frozenset[NodeId]
    loop: NodeId | None

    def redoes(self, event: Event) -> bool:
        step = subject(event)
        if step is None or (self.scope is not None and step.scope[: self.depth] != self.scope):
            return False
        path = (*(loop for loop, _ in step.scope), step.node)
        if len(path) <= self.depth:
            return False
        here = path[self.depth]
        if here == self.loop and len(path) == self.depth + 1:
            # Its items stay, and so do attempts that failed before there were any.
            return isinstance(event, StepSucceeded)
        return here in self.nodes


def _levels(plan: Plan, beginning: Beginning) -> Iterator[_Level]:
    loops = around(plan, beginning.node)
    for depth, node in enumerate((*loops, beginning.node)):
        is_last = depth == len(loops)
        scope = None if beginning.scope is None else beginning.scope[:depth]
        following = _downstream(plan, node)
        yield _Level(depth, scope, following if is_last else following - {node}, None if is_last else node)


def _downstream(plan: Plan, node: NodeId) -> frozenset[NodeId]:
    """A node and those of its level that may follow from it."""
    found, waiting = {node}, [node]
    while waiting:
        for edge in plan.outgoing[waiting.pop()]:
            if edge.target not in found:
                found.add(edge.target)
                waiting.append(edge.target)
    return frozenset(found)


def _reopened(recorded: Sequence[Event]) -> Iterator[Event]:
    """Without the ends of loops that were given up: the step they were given up for fails them again, or does not."""
    with_items = {_attempt(event) for event in recorded if isinstance(event, StepIterating)}
    return (event for event in recorded if not (isinstance(event, StepFailed) and _attempt(event) in with_items))


def _attempt(event: Event) -> tuple[StepId, int] | None:
    match event:
        case (
            StepSucceeded(step, attempt)
            | StepIterating(step, attempt)
            | StepSuspended(step, attempt)
            | StepResumed(step, attempt)
            | StepFailed(step, attempt)
            | StepLost(step, attempt)
        ):
            return step, attempt
        case _:
            return None
