"""The Plan: the compiled, frozen part of a workflow that one trigger reaches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NewType

NodeId = NewType("NodeId", str)
Scope = tuple[tuple[NodeId, int], ...]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class On(StrEnum):
    """When an edge is taken, once its source has settled."""

    SUCCESS = "success"
    ROUTE = "route"
    ERROR = "error"
    BODY = "body"


class Join(StrEnum):
    """What a node with several incoming edges waits for."""

    ALL = "all"
    ANY = "any"


class OnError(StrEnum):
    """What a step does when its last attempt has failed."""

    STOP = "stop"
    CONTINUE = "continue"
    DEFAULT = "default"


class OnItemError(StrEnum):
    """What a loop does with an iteration that failed."""

    STOP = "stop"
    CONTINUE = "continue"
    COLLECT = "collect"


@dataclass(frozen=True, slots=True)
class Edge:
    """`route` is the route that takes the edge (only `On.ROUTE`); ports name the values that flow along it."""

    source: NodeId
    target: NodeId
    on: On = On.SUCCESS
    route: str | None = None
    source_port: str | None = None
    target_port: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` counts the first try; delays in seconds grow from `initial` by `factor` up to `ceiling`."""

    attempts: int = 1
    initial: float = 1.0
    factor: float = 2.0
    ceiling: float = 60.0
    jitter: float = 0.1

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure, before jitter."""
        try:
            return float(min(self.initial * self.factor ** (failures - 1), self.ceiling))
        except OverflowError:
            return float(self.ceiling)


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """`timeout` is in seconds; None means the installation's default."""

    retry: Retry = Retry()
    on_error: OnError = OnError.STOP
    default: Json = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node as the engine sees it; `config` is as stored, templates unresolved, without secrets."""

    id: NodeId
    type: str
    loop: NodeId | None = None
    join: Join = Join.ALL
    policy: FailurePolicy = FailurePolicy()
    interrupt_before: bool = False
    interrupt_after: bool = False
    config: Mapping[str, Json] = field(default_factory=dict)
    reads: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """The iterating side of a loop node: where an item enters, and whose output is its result."""

    node: NodeId
    returns: tuple[NodeId, ...] = ()
    concurrency: int = 1
    on_error: OnItemError = OnItemError.STOP


@dataclass(frozen=True)
class Plan:
    """Nodes, edges and loops that `trigger` reaches; what is derived from them is computed once."""

    workflow_id: int
    trigger: NodeId
    nodes: Mapping[NodeId, PlanNode]
    edges: tuple[Edge, ...]
    loops: Mapping[NodeId, Loop] = field(default_factory=dict)

    @cached_property
    def outgoing(self) -> Mapping[NodeId, tuple[Edge, ...]]:
        """Edges by source, without the ones into a loop's body."""
        return self._grouped(
            {node: [e for e in self.edges if e.source == node and e.on is not On.BODY] for node in self.nodes}
        )

    @cached_property
    def incoming(self) -> Mapping[NodeId, tuple[Edge, ...]]:
        """Edges by target, the one from the loop that a body starts with included."""
        return self._grouped({node: [e for e in self.edges if e.target == node] for node in self.nodes})

    @cached_property
    def entries(self) -> Mapping[NodeId, tuple[NodeId, ...]]:
        """For each loop the nodes that its items enter by."""
        return {
            loop: tuple(dict.fromkeys(e.target for e in self.edges if e.source == loop and e.on is On.BODY))
            for loop in self.loops
        }

    @cached_property
    def members(self) -> Mapping[NodeId, tuple[NodeId, ...]]:
        """For each loop the nodes of its body; the body of a loop inside it belongs to that inner loop."""
        return {loop: tuple(node.id for node in self.nodes.values() if node.loop == loop) for loop in self.loops}

    @cached_property
    def leaves(self) -> tuple[NodeId, ...]:
        """Nodes outside loops that nothing follows: their values are the execution's output."""
        return tuple(
            node.id
            for node in self.nodes.values()
            if node.loop is None and all(e.on is On.ERROR for e in self.outgoing[node.id])
        )

    @staticmethod
    def _grouped(lists: Mapping[NodeId, list[Edge]]) -> Mapping[NodeId, tuple[Edge, ...]]:
        return {node: tuple(edges) for node, edges in lists.items()}
