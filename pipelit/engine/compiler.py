"""Workflow rows to a Plan, or every problem with them at once. Nothing is executed."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelit.engine import expressions
from pipelit.engine.core.graph import (
    Edge,
    FailurePolicy,
    Join,
    Json,
    Loop,
    NodeId,
    On,
    OnError,
    OnItemError,
    Plan,
    PlanNode,
    Retry,
)
from pipelit.engine.topology import Topology
from pipelit.errors import Invalid, InvalidGraph, Problem
from pipelit.models.node import WorkflowEdge, WorkflowNode
from pipelit.nodes import registry
from pipelit.nodes.base import LoopingNode, NodeType, StepNode, TriggerNode
from pipelit.nodes.ports import EdgeLabel
from pipelit.nodes.settings import declared_settings

TRIGGER, LOOP, EXECUTION = NodeId("trigger"), NodeId("loop"), NodeId("execution")
ALWAYS_THERE = frozenset({TRIGGER, LOOP, EXECUTION})
"""Names that expressions may use besides the ids of nodes."""

ERROR_PORT = "error"


def problems(nodes: Sequence[WorkflowNode], edges: Sequence[WorkflowEdge]) -> list[Problem]:
    """Everything that keeps a workflow, or a part of it, from running."""
    topology = Topology.of(nodes, edges)
    found = [*_missing_ends(topology, edges), *topology.circles(), *topology.crossings()]
    for node in nodes:
        found.extend(_problems_of(topology, node))
    if not any(isinstance(registry.load().get(node.component_type), TriggerNode) for node in nodes):
        found.append(Problem("no_trigger", "Nothing can start this workflow: add a trigger."))
    return found


def compile_plan(workflow_id: int, nodes: Sequence[WorkflowNode], edges: Sequence[WorkflowEdge], trigger: str) -> Plan:
    """The Plan of what `trigger` reaches. Raises `InvalidGraph` with every problem of that part."""
    topology = Topology.of(nodes, edges)
    reached = topology.reachable([NodeId(trigger)])
    # Problems outside of what the trigger reaches are the draft's business, not this execution's.
    found = [
        problem
        for problem in problems(nodes, edges)
        if problem.code != "no_trigger" and (problem.node_id is None or problem.node_id in reached)
    ]
    if found:
        raise InvalidGraph(found)
    steps = [node for node in nodes if node.node_id in reached]
    return Plan(
        workflow_id=workflow_id,
        trigger=NodeId(trigger),
        nodes={NodeId(node.node_id): _plan_node(topology, node) for node in steps},
        edges=tuple(_plan_edges(topology, reached)),
        loops={NodeId(node.node_id): loop for node in steps if (loop := _loop(topology, node))},
    )


def _plan_node(topology: Topology, node: WorkflowNode) -> PlanNode:
    node_type = registry.get(node.component_type)
    values = _values(node)
    around = topology.loops_around[NodeId(node.node_id)]
    is_step = isinstance(node_type, StepNode)
    return PlanNode(
        id=NodeId(node.node_id),
        type=node.component_type,
        loop=around[-1] if around else None,
        join=Join.ANY if isinstance(node_type, StepNode) and not node_type.waits_for_all(values) else Join.ALL,
        policy=_policy(values.get("failure")),
        interrupt_before=is_step and node.interrupt_before,
        interrupt_after=is_step and node.interrupt_after,
        config=values,
        reads=tuple(sorted(names_read(node_type, values))),
    )


def _values(node: WorkflowNode) -> dict[str, Json]:
    """A node's config as it runs; a reference to a workflow that is kept in a column of its own is part of it."""
    values = registry.current_values(node.config)
    name = "subworkflow_id"
    if node.subworkflow_id is None or name not in declared_settings(registry.get(node.component_type).Config):
        return values
    return {**values, name: node.subworkflow_id}


def _policy(stored: Any) -> FailurePolicy:
    if not stored:
        return FailurePolicy()
    return FailurePolicy(
        retry=Retry(**stored.get("retry", {})),
        on_error=OnError(stored.get("on_error", OnError.STOP)),
        default=stored.get("default"),
        timeout=stored.get("timeout"),
    )


def _loop(topology: Topology, node: WorkflowNode) -> Loop | None:
    node_type = registry.get(node.component_type)
    if not isinstance(node_type, LoopingNode):
        return None
    returns = (
        NodeId(edge.source_node_id)
        for edge in topology.labelled(EdgeLabel.LOOP_RETURN)
        if edge.target_node_id == node.node_id
    )
    return Loop(
        node=NodeId(node.node_id),
        returns=tuple(returns),
        concurrency=node_type.concurrency(registry.current_values(node.config)),
        on_error=OnItemError(node_type.on_item_error(registry.current_values(node.config))),
    )


def _plan_edges(topology: Topology, reached: set[NodeId]) -> Iterator[Edge]:
    for edge in topology.flow:
        source, target = NodeId(edge.source_node_id), NodeId(edge.target_node_id)
        if source not in reached:
            continue
        ports = {"source_port": edge.source_port, "target_port": edge.target_port}
        if edge.edge_label == EdgeLabel.LOOP_BODY:
            yield Edge(source, target, On.BODY, **ports)
        elif edge.source_port == ERROR_PORT:
            yield Edge(source, target, On.ERROR, **ports)
        elif edge.edge_type == "conditional":
            for route in _routes_of(edge):
                yield Edge(source, target, On.ROUTE, route, **ports)
        else:
            yield Edge(source, target, On.SUCCESS, **ports)


def _routes_of(edge: WorkflowEdge) -> Iterator[str]:
    """The routes that take an edge: the one it names, or those that its mapping sends to its target."""
    if edge.condition_value is not None:
        yield edge.condition_value
    for route, target in (edge.condition_mapping or {}).items():
        if target == edge.target_node_id and route != edge.condition_value:
            yield route


def names_read(node_type: NodeType[Any], values: Mapping[str, Json]) -> set[NodeId]:
    """The root names that a node's config reads, in expressions or as paths."""
    paths = node_type.reads(values) if isinstance(node_type, StepNode) else ()
    return {NodeId(name) for name in (*expressions.names(dict(values)), *paths)}


def _missing_ends(topology: Topology, edges: Sequence[WorkflowEdge]) -> Iterator[Problem]:
    for edge in edges:
        for end in (edge.source_node_id, edge.target_node_id):
            if end not in topology.nodes:
                yield Problem("missing_node", f"An edge leads to '{end}', which is not there.", edge_id=edge.id)


def _problems_of(topology: Topology, node: WorkflowNode) -> Iterator[Problem]:
    node_type = registry.load().get(node.component_type)
    if node_type is None:
        yield Problem("unknown_type", f"There is no node type called '{node.component_type}'.", node.node_id)
        return
    values = _values(node)
    secrets = dict.fromkeys(node_type.secrets, "kept") if node.config.secrets else {}
    try:
        node_type.check({**values, **secrets})
    except Invalid as invalid:
        for path, messages in invalid.errors.items():
            yield Problem("config_invalid", f"{node.node_id}: {path}: {' '.join(messages)}", node.node_id)
    for path, message in expressions.syntax_problems(values, "config"):
        yield Problem("expression_syntax", f"{node.node_id}: {path}: {message}", node.node_id)
    if isinstance(node_type, LoopingNode) and node.node_id not in topology.bodies:
        yield Problem("loop_without_body", f"The loop {node.node_id} has no loop_body edge.", node.node_id)
    yield from _unreadable(topology, node, names_read(node_type, values) - ALWAYS_THERE)


def _unreadable(topology: Topology, node: WorkflowNode, names: set[NodeId]) -> Iterator[Problem]:
    """Names in a node's config that no node before it can answer."""
    here = NodeId(node.node_id)
    loops = topology.loops_around[here]
    for name in sorted(names):
        if name not in topology.nodes:
            close = difflib.get_close_matches(name, [*topology.nodes, *ALWAYS_THERE], 1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            yield Problem("unknown_name", f"{here} reads '{name}', and no node is called so.{hint}", here)
        elif (around := topology.loops_around[name]) != loops[: len(around)]:
            yield Problem("inside_loop", f"{here} reads '{name}', which runs once per item inside {around[-1]}.", here)
        elif name in loops:
            yield Problem("own_loop", _own_loop(here, name, loops), here)
        elif name not in topology.ancestors[here]:
            yield Problem("not_before", f"{here} reads '{name}', which does not run before it.", here)


def _own_loop(here: NodeId, loop: NodeId, loops: Sequence[NodeId]) -> str:
    """What is to be written in the place of a loop's own name, by a node inside it."""
    around = ".".join([LOOP, *["parent"] * (len(loops) - 1 - loops.index(loop))])
    return (
        f"{here} reads '{loop}', the loop around it, which has no outputs before it is over. "
        f"Write {around}.item, {around}.index or {around}.total."
    )
