"""How a workflow's nodes hang together: what a trigger reaches, what stands in which loop, where it goes in circles."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipelit.engine.core.graph import NodeId
from pipelit.errors import Problem
from pipelit.models.node import WorkflowEdge, WorkflowNode
from pipelit.nodes.ports import EdgeLabel

FLOW = (EdgeLabel.DATA, EdgeLabel.LOOP_BODY)
"""Labels of the edges along which steps follow one another; a `loop_return` closes a loop and orders nothing."""


@dataclass(frozen=True)
class Topology:
    """A workflow's graph with its derived structure; edges to nodes that are not there are left out."""

    nodes: Mapping[NodeId, WorkflowNode]
    edges: tuple[WorkflowEdge, ...]

    @classmethod
    def of(cls, nodes: Iterable[WorkflowNode], edges: Iterable[WorkflowEdge]) -> "Topology":
        known = {NodeId(node.node_id): node for node in nodes}
        whole = tuple(edge for edge in edges if edge.source_node_id in known and edge.target_node_id in known)
        return cls(known, whole)

    @cached_property
    def flow(self) -> tuple[WorkflowEdge, ...]:
        """The edges that steps follow, the ones with a higher priority first."""
        chosen = [edge for edge in self.edges if edge.edge_label in FLOW]
        return tuple(sorted(chosen, key=lambda edge: -(edge.priority or 0)))

    @cached_property
    def successors(self) -> Mapping[NodeId, tuple[NodeId, ...]]:
        found: dict[NodeId, list[NodeId]] = {node: [] for node in self.nodes}
        for edge in self.flow:
            found[NodeId(edge.source_node_id)].append(NodeId(edge.target_node_id))
        return {node: tuple(dict.fromkeys(targets)) for node, targets in found.items()}

    def labelled(self, label: EdgeLabel) -> Iterator[WorkflowEdge]:
        return (edge for edge in self.edges if edge.edge_label == label)

    def reachable(self, starts: Iterable[NodeId], *, without: NodeId | None = None) -> set[NodeId]:
        """The nodes that flow leads to from `starts`, these included, never passing through `without`."""
        seen = {start for start in starts if start != without}
        queue = deque(seen)
        while queue:
            for target in self.successors[queue.popleft()]:
                if target not in seen and target != without:
                    seen.add(target)
                    queue.append(target)
        return seen

    @cached_property
    def bodies(self) -> Mapping[NodeId, frozenset[NodeId]]:
        """For each loop all nodes that run once per item, those of loops inside it included."""
        entries: dict[NodeId, list[NodeId]] = {}
        for edge in self.labelled(EdgeLabel.LOOP_BODY):
            entries.setdefault(NodeId(edge.source_node_id), []).append(NodeId(edge.target_node_id))
        return {loop: frozenset(self.reachable(starts, without=loop)) for loop, starts in entries.items()}

    @cached_property
    def loops_around(self) -> Mapping[NodeId, tuple[NodeId, ...]]:
        """For each node the loops it stands in, outermost first."""
        around: dict[NodeId, list[NodeId]] = {node: [] for node in self.nodes}
        for loop in sorted(self.bodies, key=lambda loop: -len(self.bodies[loop])):
            for node in self.bodies[loop]:
                around[node].append(loop)
        return {node: tuple(loops) for node, loops in around.items()}

    @cached_property
    def ancestors(self) -> Mapping[NodeId, frozenset[NodeId]]:
        """For each node those that run before it. Empty for all when the graph goes in circles."""
        order = self._order()
        found: dict[NodeId, set[NodeId]] = {node: set() for node in self.nodes}
        for node in order:
            for target in self.successors[node]:
                found[target] |= found[node] | {node}
        return {node: frozenset(before) for node, before in found.items()}

    def _order(self) -> list[NodeId]:
        """A topological order (Kahn 1962); the nodes of circles, and what follows them, are missing from it."""
        open_edges = dict.fromkeys(self.nodes, 0)
        for targets in self.successors.values():
            for target in targets:
                open_edges[target] += 1
        queue = deque(node for node, count in open_edges.items() if count == 0)
        order = []
        while queue:
            order.append(node := queue.popleft())
            for target in self.successors[node]:
                open_edges[target] -= 1
                if open_edges[target] == 0:
                    queue.append(target)
        return order

    def circles(self) -> Iterator[Problem]:
        """A problem for each group of nodes that lead back to themselves outside of a loop."""
        rest = set(self.nodes) - set(self._order())
        while rest:
            start = min(rest)
            circle = {node for node in self.reachable([start]) & rest if start in self.reachable(self.successors[node])}
            if circle and start in self.reachable(self.successors[start]):
                names = ", ".join(sorted(circle))
                yield Problem(
                    "cycle", f"These nodes lead back to themselves: {names}. Use a loop to repeat steps.", start
                )
                rest -= circle
            rest.discard(start)

    def crossings(self) -> Iterator[Problem]:
        """A problem for each edge that leaves or enters a loop's body other than by the loop's own edges."""
        for edge in self.edges:
            source, target = NodeId(edge.source_node_id), NodeId(edge.target_node_id)
            inside, outside = self.loops_around[source], self.loops_around[target]
            if edge.edge_label == EdgeLabel.DATA and inside != outside:
                message = (
                    f"The edge from {source} to {target} crosses the border of a loop; leave it by a loop_return edge."
                )
                yield Problem("edge_crosses_loop", message, source, edge.id)
            if edge.edge_label == EdgeLabel.LOOP_RETURN and (not inside or inside[-1] != target):
                message = f"The loop_return edge from {source} does not start in the body of {target}."
                yield Problem("loop_return_outside", message, source, edge.id)
            if edge.edge_label == EdgeLabel.LOOP_BODY and (not outside or outside[-1] != source):
                message = f"{target} stands in the bodies of two loops that are not one inside the other."
                yield Problem("loops_overlap", message, target, edge.id)
