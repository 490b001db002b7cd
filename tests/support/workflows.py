"""Workflows in a few readable lines, made through the same service as everybody's."""

from collections.abc import Mapping
from typing import Any

from pipelit.models import UserProfile, Workflow
from pipelit.models.user import Role
from pipelit.services import users, workflows
from pipelit.services.drafts import EdgeDraft, GraphDraft, NodeDraft

Nodes = Mapping[str, tuple[str, Mapping[str, Any]]]

ARROWS = {" =body=> ": "loop_body", " =return=> ": "loop_return", " -> ": ""}
FLAGS = ("interrupt_before", "interrupt_after")


def build(nodes: Nodes, edges: str, *, by: UserProfile | None = None, **about: Any) -> Workflow:
    """A workflow of `{node_id: (type, config)}` and edges such as `a -> b; s.yes -> b; l =body=> x; x =return=> l`.

    `s.yes` is the route `yes` of `s`, `a!error` its error port. Flags of a node may stand in its config.
    """
    drafts = [_node(node_id, kind, dict(config)) for node_id, (kind, config) in nodes.items()]
    parts = [part.strip() for part in edges.split(";") if part.strip()]
    document = {"name": about.pop("name", "Story"), **about}
    return workflows.import_(GraphDraft(drafts, [_edge(part) for part in parts], document), by=by)


def admin(name: str = "ada") -> UserProfile:
    """An administrator."""
    return users.create(name, "correct horse battery", Role.ADMIN)


def _node(node_id: str, kind: str, config: dict[str, Any]) -> NodeDraft:
    flags = {flag: config.pop(flag) for flag in FLAGS if flag in config}
    return NodeDraft(kind, node_id, config=config, **flags)


def _edge(text: str) -> EdgeDraft:
    arrow, label = next((arrow, label) for arrow, label in ARROWS.items() if arrow in text)
    source, target = (end.strip() for end in text.split(arrow))
    if "!" in source:
        source, port = source.split("!")
        return EdgeDraft(source, target, edge_label=label, source_port=port)
    if "." in source:
        source, route = source.split(".")
        return EdgeDraft(source, target, edge_type="conditional", condition_value=route)
    return EdgeDraft(source, target, edge_label=label)
