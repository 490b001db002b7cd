"""Local slices: a task that goes on with the step which its own commit made ready, instead of sending it.

The commit writes the claim of that step in the place of its message, so that it is nobody else's from the beginning.
All else is as it is for a step that was sent: an attempt of its own, a lease, events, a log row, a commit.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pipelit.engine.core.commands import Command, RunStep
from pipelit.engine.core.graph import Plan
from pipelit.engine.core.state import StepStatus
from pipelit.engine.keys import TaskId
from pipelit.engine.store import Snapshot, Store
from pipelit.engine.timing import Stopwatch
from pipelit.nodes import registry
from pipelit.nodes.base import StepNode

SLICE_MS = 50
"""How long a task goes on before others get their turn: a new step is not begun after that."""


class Placement(StrEnum):
    """Where the steps of an execution run: each as a task of its own, or in slices of pure steps."""

    CHAINED = "chained"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Here:
    """The process that would go on, as claims name it, and how long its leases last.

    The token is this one's alone, so that a claim is found again of which nobody could be told that it was written.
    """

    owner: str
    lease_ms: int
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def claim(self, attempt: int, watch: Stopwatch) -> str:
        """What it writes as its claim of an attempt."""
        return f"{attempt} {self.owner} {self.token} {watch}"

    def has_written(self, claim: str) -> bool:
        """Whether a claim is its own."""
        return self.token in claim.split(" ")


@dataclass(frozen=True, slots=True)
class Committed:
    """A transition that was applied at `at_ms`: the state since then, and the step that goes on in place, if one does.

    `outputs` are the data fields that it wrote, which need not be read again.
    """

    snapshot: Snapshot
    at_ms: float
    following: TaskId | None
    outputs: Mapping[str, str]


def found_again(store: Store, execution_id: str, here: Here) -> Committed | None:
    """What was committed and claimed for the next step, if the answer to that commit was lost on its way to us."""
    for step, claim in store.claims(execution_id).items():
        if not here.has_written(claim):
            continue
        attempt, due_ms = int(claim.split(" ")[0]), float(claim.split(" ")[-1])
        loaded = store.load(execution_id)
        known = loaded[0].state.steps.get(step) if loaded else None
        if loaded is None or known is None or known.attempt != attempt or known.status is not StepStatus.READY:
            return None
        return Committed(loaded[0], due_ms, TaskId(execution_id, step, attempt), {})
    return None


def following(plan: Plan, commands: Sequence[Command]) -> RunStep | None:
    """The step that may go on in place: the only one made ready, at once, of a type that does no IO and never waits."""
    ready = [command for command in commands if isinstance(command, RunStep)]
    if len(ready) != 1 or ready[0].delay:
        return None
    node_type = registry.load().get(plan.nodes[ready[0].step.node].type)
    return ready[0] if isinstance(node_type, StepNode) and node_type.is_pure else None
