"""What an edge may join: ports that fit, labels that mean something at both ends, routes that exist, no circles.

Pure: given an edge and what stands at its ends, say what is wrong, by field.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelit.nodes.base import ERROR_PORT, LoopingNode, NodeType, ProviderNode, StepNode, TriggerNode
from pipelit.nodes.ports import PROVIDED, EdgeLabel, Json, Port
from pipelit.services.drafts import EdgeDraft
from pipelit.services.names import did_you_mean

FLOW = (EdgeLabel.DATA, EdgeLabel.LOOP_BODY)
"""Labels along which steps follow one another; what they lead around in a circle could never start."""

MOST_CIRCLES = 20


@dataclass(frozen=True, slots=True)
class End:
    """A node as its edges see it; `type` is None when the node's type is not installed any more."""

    node_id: str
    type: NodeType[Any] | None
    values: Mapping[str, Json]


Complaint = tuple[str, str]
"""The name of a field of the edge, and what is wrong with it."""


def complaints(edge: EdgeDraft, ends: Mapping[str, End]) -> list[Complaint]:
    """Everything that is wrong with an edge between these nodes."""
    found = list(_missing(edge, ends))
    if found:
        return found
    source, target = ends[edge.source_node_id], ends[edge.target_node_id]
    if source is target:
        return [("target_node_id", f"An edge cannot lead from '{source.node_id}' to itself.")]
    if source.type is None or target.type is None:
        return []
    if isinstance(target.type, TriggerNode):
        return [("target_node_id", f"'{target.node_id}' is a trigger: nothing comes before it.")]
    by_label = _label_complaints(edge, source.type, target.type)
    return [*by_label, *_port_complaints(edge, source.type, target.type), *_route_complaints(edge, source)]


def repeated(edges: Sequence[EdgeDraft]) -> Iterator[int]:
    """The positions of edges that say the same as an earlier one."""
    seen = set()
    for position, edge in enumerate(edges):
        if edge.identity in seen:
            yield position
        seen.add(edge.identity)


def circles(edges: Sequence[EdgeDraft]) -> Iterator[tuple[int, str]]:
    """For each circle the position of the edge that closes it, and a sentence naming the nodes on it."""
    following: dict[str, list[tuple[int, str]]] = {}
    for position, edge in enumerate(edges):
        if edge.edge_label in FLOW:
            following.setdefault(edge.source_node_id, []).append((position, edge.target_node_id))
    for count, (position, path) in enumerate(_back_edges(following)):
        if count == MOST_CIRCLES:
            return
        names = " → ".join((*path, path[0]))
        yield position, f"{names} is a circle; repeat steps with a loop, whose body ends with a loop_return edge."


def _back_edges(following: Mapping[str, Sequence[tuple[int, str]]]) -> Iterator[tuple[int, list[str]]]:
    """Edges of a depth-first walk that lead back to the path it is on, with the part of the path they close."""
    done: set[str] = set()
    for start in following:
        path, walks = [start], [iter(following[start])]
        on_path = {start: 0}
        while walks and start not in done:
            position, target = next(walks[-1], (-1, ""))
            if position < 0:
                walks.pop()
                done.add(left := path.pop())
                del on_path[left]
            elif target in on_path:
                yield position, path[on_path[target] :]
            elif target not in done:
                on_path[target] = len(path)
                path.append(target)
                walks.append(iter(following.get(target, ())))


def _missing(edge: EdgeDraft, ends: Mapping[str, End]) -> Iterator[Complaint]:
    for name in ("source_node_id", "target_node_id"):
        node_id: str = getattr(edge, name)
        if node_id not in ends:
            yield name, f"There is no node '{node_id}'.{did_you_mean(node_id, ends)}"


def _label_complaints(edge: EdgeDraft, source: NodeType[Any], target: NodeType[Any]) -> Iterator[Complaint]:
    label = EdgeLabel(edge.edge_label)
    if label in PROVIDED:
        if not _provides(source, label):
            yield "edge_label", f"{source.title} does not provide '{label}'."
        if label not in target.sub_inputs:
            yield "edge_label", f"{target.title} does not take '{label}'."
    elif not isinstance(source, StepNode | TriggerNode):
        yield (
            "source_node_id",
            f"{source.title} does not run as a step: connect it by an edge labelled with what it provides.",
        )
    elif not isinstance(target, StepNode):
        yield "target_node_id", f"{target.title} does not run as a step: nothing leads to it."
    elif label is EdgeLabel.LOOP_BODY and not isinstance(source, LoopingNode):
        yield "edge_label", f"A loop_body edge starts at a loop; {source.title} is none."
    elif label is EdgeLabel.LOOP_RETURN and not isinstance(target, LoopingNode):
        yield "edge_label", f"A loop_return edge ends at a loop; {target.title} is none."
    elif label is EdgeLabel.LOOP_RETURN and not isinstance(source, StepNode):
        yield "edge_label", "A loop_return edge starts in the loop's body, not at a trigger."


def _provides(source: NodeType[Any], label: EdgeLabel) -> bool:
    if isinstance(source, ProviderNode):
        return source.provides is label
    return label is EdgeLabel.TOOL and isinstance(source, StepNode) and source.is_tool


def _port_complaints(edge: EdgeDraft, source: NodeType[Any], target: NodeType[Any]) -> Iterator[Complaint]:
    extra = (ERROR_PORT,) if isinstance(source, StepNode) else ()
    given = _chosen(edge.source_port, (*source.outputs, *extra)) if edge.source_port else source.outputs
    taken = _chosen(edge.target_port, target.inputs) if edge.target_port else target.inputs
    if edge.source_port and not given:
        known = [port.name for port in (*source.outputs, *extra)]
        yield "source_port", f"{source.title} has no output '{edge.source_port}'; it has {_listed(known)}."
    if edge.target_port and not taken:
        known = [port.name for port in target.inputs]
        yield "target_port", f"{target.title} has no input '{edge.target_port}'; it has {_listed(known)}."
    if edge.edge_label != EdgeLabel.DATA or not given or not taken:
        return
    if not any(into.type.accepts(port.type) for port in given for into in taken):
        field = "source_port" if edge.source_port else "target_port" if edge.target_port else "target_node_id"
        gives = _listed([f"{port.type} ({port.name})" for port in given])
        takes = _listed([f"{port.type} ({port.name})" for port in taken])
        yield field, f"{source.title} gives {gives}, {target.title} takes {takes}: none of these fit."


def _chosen(name: str, ports: Iterable[Port]) -> tuple[Port, ...]:
    return tuple(port for port in ports if port.name == name)


def _route_complaints(edge: EdgeDraft, source: End) -> Iterator[Complaint]:
    if edge.edge_type != "conditional":
        if edge.condition_value is not None or edge.condition_mapping:
            yield "condition_value", "Only a conditional edge has a condition."
        return
    assert source.type is not None
    known = source.type.routes(source.values)
    if edge.edge_label != EdgeLabel.DATA or edge.source_port == ERROR_PORT.name:
        yield "edge_type", "Only an edge that carries data can be conditional."
    elif not known:
        yield "edge_type", f"A conditional edge starts at a node that chooses routes; {source.type.title} chooses none."
    elif not edge.routes:
        yield "condition_value", f"Name the route that takes this edge: {_listed(known)}."
    for route in edge.routes:
        if known and route not in known:
            message = f"'{source.node_id}' has no route '{route}'; it has {_listed(known)}."
            yield "condition_value" if route == edge.condition_value else "condition_mapping", message


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
