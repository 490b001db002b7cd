"""What is known of a live execution: its status, and each step that has been reached."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Self, assert_never

from pipelit.engine.core.graph import Edge, NodeId, On, Scope


class StepId(NamedTuple):
    """One node in one scope. As text: `node`, or `node@loop:3/inner:0` inside iterations."""

    node: NodeId
    scope: Scope = ()

    def __str__(self) -> str:
        return f"{self.node}@{scope_text(self.scope)}" if self.scope else self.node

    @staticmethod
    @lru_cache(maxsize=65_536)
    def parse(text: str) -> "StepId":
        """Read what `str()` wrote; node ids hold neither `@`, `/` nor `:`."""
        node, _, scope = text.partition("@")
        return StepId(NodeId(node), parse_scope(scope))


def scope_text(scope: Scope) -> str:
    """A scope as text: `loop:3/inner:0`, empty at top level."""
    return "/".join(f"{loop}:{index}" for loop, index in scope)


def parse_scope(text: str) -> Scope:
    """Read what `scope_text` wrote."""
    if not text:
        return ()
    pairs = (part.rpartition(":") for part in text.split("/"))
    return tuple((NodeId(loop), int(index)) for loop, _, index in pairs)


class ExecutionStatus(StrEnum):
    """How an execution stands; `INTERRUPTED` is derived from its steps and never stored in the core's state."""

    PENDING = "pending"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset(
    {ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.TIMED_OUT}
)


class StepStatus(StrEnum):
    """`READY` covers queued and running: only the claim in Redis tells the two apart, the core need not know."""

    READY = "ready"
    WAITING = "waiting"
    HELD_BEFORE = "held_before"
    HELD_AFTER = "held_after"
    ITERATING = "iterating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


SETTLED = frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED})
HELD = frozenset({StepStatus.HELD_BEFORE, StepStatus.HELD_AFTER})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a loop is: `following` is the index of the next item to start, `open` those being worked on."""

    total: int
    following: int = 0
    open: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StepState:
    """`attempt` is the fencing token; `failures` and `losses` say why there was more than one."""

    status: StepStatus
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    route: str | None = None
    progress: Progress | None = None

    @property
    def is_settled(self) -> bool:
        return self.status in SETTLED


@dataclass(frozen=True, slots=True)
class State:
    """The frontier of a live execution: settled iterations of loops have already been folded away."""

    status: ExecutionStatus = ExecutionStatus.PENDING
    steps: Mapping[StepId, StepState] = field(default_factory=dict)

    @property
    def in_flight(self) -> Iterator[StepId]:
        """Steps from which something is still to be expected."""
        return (step for step, known in self.steps.items() if not known.is_settled)

    @property
    def is_held(self) -> bool:
        """Whether a step waits for a person to let it go on."""
        return any(known.status in HELD for known in self.steps.values())

    def replace(self, status: ExecutionStatus, steps: Mapping[StepId, StepState]) -> Self:
        return type(self)(status, steps)


def takes(source: StepState, edge: Edge) -> bool:
    """Whether a settled step takes an edge that starts at it."""
    match edge.on:
        case On.SUCCESS | On.BODY:
            return source.status is StepStatus.SUCCEEDED
        case On.ROUTE:
            return source.status is StepStatus.SUCCEEDED and source.route == edge.route
        case On.ERROR:
            return source.status is StepStatus.FAILED
        case _:
            assert_never(edge.on)
