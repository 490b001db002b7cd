"""Local slices: a task that goes on with the step which its own commit made ready, instead of sending it.

The commit writes the claim of that step in the place of its message, so that it is nobody else's from the beginning.
All else is as it is for a step that was sent: an attempt of its own, a lease, events, a log row, a commit.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelit.engine.core.commands import Command, RunStep
from pipelit.engine.core.graph import Plan
from pipelit.engine.keys import TaskId
from pipelit.engine.store import Snapshot
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
    """The process that would go on, as claims name it, and how long its leases last."""

    owner: str
    lease_ms: int

    def claim(self, attempt: int, watch: Stopwatch) -> str:
        """What it writes as its claim of an attempt."""
        return f"{attempt} {self.owner} {uuid.uuid4().hex} {watch}"


@dataclass(frozen=True, slots=True)
class Committed:
    """A transition that was applied at `at_ms`: the state since then, and the step that goes on in place, if one does.

    `outputs` are the data fields that it wrote, which need not be read again.
    """

    snapshot: Snapshot
    at_ms: float
    following: TaskId | None
    outputs: Mapping[str, str]


def following(plan: Plan, commands: Sequence[Command]) -> RunStep | None:
    """The step that may go on in place: the only one made ready, at once, of a type that does no IO and never waits."""
    ready = [command for command in commands if isinstance(command, RunStep)]
    if len(ready) != 1 or ready[0].delay:
        return None
    node_type = registry.get(plan.nodes[ready[0].step.node].type)
    return ready[0] if isinstance(node_type, StepNode) and node_type.is_pure else None
