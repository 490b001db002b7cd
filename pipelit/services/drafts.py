"""Nodes, edges and graphs as somebody wants them to be, before any row exists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pipelit.models import WorkflowEdge
from pipelit.nodes.ports import Json

MOST_NODES = 2_000
MOST_EDGES = 10_000


@dataclass(frozen=True, slots=True)
class NodeDraft:
    """A node; without a `node_id` it gets one made from its type."""

    component_type: str
    node_id: str | None = None
    label: str | None = None
    is_entry_point: bool = False
    interrupt_before: bool = False
    interrupt_after: bool = False
    position_x: int = 0
    position_y: int = 0
    config: Mapping[str, Json] = field(default_factory=dict)
    subworkflow_id: int | None = None
    code_block_id: int | None = None


@dataclass(frozen=True, slots=True)
class EdgeDraft:
    """An edge, its ends named by `node_id`."""

    source_node_id: str
    target_node_id: str
    edge_type: str = "direct"
    edge_label: str = ""
    condition_value: str | None = None
    condition_mapping: Mapping[str, str] | None = None
    priority: int = 0
    source_port: str | None = None
    target_port: str | None = None

    @classmethod
    def of(cls, row: WorkflowEdge) -> "EdgeDraft":
        """The draft that a stored edge came from."""
        return cls(**{part.name: getattr(row, part.name) for part in fields(cls)})

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes that take this edge: the one it names, then those that its mapping sends to its target."""
        mapped = (route for route, target in (self.condition_mapping or {}).items() if target == self.target_node_id)
        named = () if self.condition_value is None else (self.condition_value,)
        return tuple(dict.fromkeys((*named, *mapped)))

    @property
    def identity(self) -> tuple[object, ...]:
        """What no two edges of a workflow may have in common."""
        ports = (self.source_port, self.target_port)
        return (self.source_node_id, self.target_node_id, self.edge_label, frozenset(self.routes), *ports)


@dataclass(frozen=True, slots=True)
class GraphDraft:
    """A whole graph; `workflow` holds what the document says about the workflow itself, if it says anything."""

    nodes: Sequence[NodeDraft] = ()
    edges: Sequence[EdgeDraft] = ()
    workflow: Mapping[str, Any] = field(default_factory=dict)


NODE_FIELDS = tuple(part.name for part in fields(NodeDraft) if part.name != "config")
EDGE_FIELDS = tuple(part.name for part in fields(EdgeDraft))
