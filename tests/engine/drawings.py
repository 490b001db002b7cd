"""Workflow rows that no database has seen, for what only reads them; they may be as wrong as one likes."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from pipelit.engine.topology import Topology
from pipelit.models.node import ComponentConfig, WorkflowEdge, WorkflowNode
from tests.support.workflows import _edge

Drawing = tuple[list[WorkflowNode], list[WorkflowEdge]]

LOOP = ("loop", {"items": [1]})


def draw(nodes: Mapping[str, Any], edges: str = "", **more: Any) -> Drawing:
    """Rows of `{node_id: (type, config)}`, or of a type alone, and edges written as in `tests.support.workflows`."""
    numbers = count(1)
    rows = [node(name, *(given if isinstance(given, tuple) else (given, {}))) for name, given in nodes.items()]
    drafts = (_edge(part.strip()) for part in edges.split(";") if part.strip())
    lines = [
        WorkflowEdge(
            id=next(numbers),
            source_node_id=draft.source_node_id,
            target_node_id=draft.target_node_id,
            edge_type=draft.edge_type,
            edge_label=draft.edge_label,
            condition_value=draft.condition_value,
            source_port=draft.source_port,
            priority=0,
            **more,
        )
        for draft in drafts
    ]
    return rows, lines


def node(name: str, kind: str, config: Mapping[str, Any], **flags: Any) -> WorkflowNode:
    row = WorkflowNode(node_id=name, component_type=kind, interrupt_before=False, interrupt_after=False)
    row.config = ComponentConfig(component_type=kind, version=1, values=dict(config))
    for flag, value in flags.items():
        setattr(row, flag, value)
    return row


def topology(nodes: str, edges: str) -> Topology:
    """The topology of nodes named by a letter each; those in upper case are loops."""
    return Topology.of(*draw({name: LOOP if name.isupper() else ("template", {}) for name in nodes}, edges))
