"""Plans in one readable line.

`graph("a -> b; b.other -> c; b!error -> d; L{ x -> y } -> d")` says:

| text | meaning |
|---|---|
| `a -> b` | an edge taken when `a` succeeds |
| `b.other -> c` | an edge taken when `b` succeeds and chooses the route `other` |
| `b!error -> d` | an edge taken when `b` fails for good and goes on by its error port |
| `a -> b -> c` | a chain: the same as `a -> b; b -> c` |
| `a, b -> c, d` | every edge from the left to the right |
| `L{ x -> y }` | a loop with its body, written where `L` occurs first; afterwards `L` alone names it |
| `L{ x -> y; L -> y }` | inside its body the loop's name stands for the item that enters: it enters `y` too |

Statements are separated by `;`, the first node is the trigger, and names hold letters, digits and `_`. Items enter a
body by the nodes that nothing leads to; it returns what those nodes give that nothing follows (error edges do not
count). Bodies hold bodies. What a line cannot say is said by keyword, field by field of `PlanNode`
or `Loop`: `graph("a -> b -> L{ x }", b={"join": Join.ANY}, L={"concurrency": 2})`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pipelit.engine.core.graph import Edge, Loop, NodeId, On, Plan, PlanNode

TOKEN = re.compile(r"\s*(?:(->|[;,{}])|(\w+)(?:\.(\w+)|(!error))?)")
LOOP_FIELDS = frozenset(part.name for part in fields(Loop)) - {"node"}


class Unreadable(ValueError):
    """The line is not in the language."""


def graph(text: str, /, **changes: Mapping[str, Any]) -> Plan:
    """The plan that the line describes, each named node changed as its keyword says."""
    parser = _Parser(list(_tokens(text)))
    parser.statements(loop=None)
    if parser.position != len(parser.tokens):
        raise Unreadable(f"{text!r}: a `}}` too many")
    if not parser.nodes:
        raise Unreadable("a plan has a trigger at least")
    if unknown := changes.keys() - parser.nodes.keys():
        raise Unreadable(f"{text!r} has no node {', '.join(sorted(unknown))}")
    return _plan(parser, changes)


@dataclass(frozen=True, slots=True)
class _Term:
    """A node where an edge may start: `b`, `b.other`, `b!error`."""

    node: NodeId
    on: On
    route: str | None


def _tokens(text: str) -> Iterator[str | _Term]:
    position, end = 0, len(text.rstrip())
    while position < end:
        found = TOKEN.match(text, position)
        if found is None:
            raise Unreadable(f"{text!r}: cannot read {text[position:]!r}")
        sign, name, route, error = found.groups()
        on = On.ERROR if error else On.ROUTE if route else On.SUCCESS
        yield sign or _Term(NodeId(name), on, route)
        position = found.end()


@dataclass(slots=True)
class _Parser:
    tokens: Sequence[str | _Term]
    position: int = 0
    nodes: dict[NodeId, NodeId | None] = field(default_factory=dict)
    loops: list[NodeId] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def statements(self, loop: NodeId | None) -> None:
        while not self._is_at("}") and self.position < len(self.tokens):
            self._chain(loop)
            while self._is_at(";"):
                self.position += 1

    def _chain(self, loop: NodeId | None) -> None:
        left = self._terms(loop)
        while self._is_at("->"):
            self.position += 1
            right = self._terms(loop)
            self.edges += [_edge(term, target, loop) for term in left for target in right]
            left = right

    def _terms(self, loop: NodeId | None) -> list[_Term]:
        terms = [self._term(loop)]
        while self._is_at(","):
            self.position += 1
            terms.append(self._term(loop))
        return terms

    def _term(self, loop: NodeId | None) -> _Term:
        term = self.tokens[self.position] if self.position < len(self.tokens) else ""
        if isinstance(term, str):
            raise Unreadable(f"a node is missing before {term!r}")
        self.position += 1
        if term.node != loop and self.nodes.setdefault(term.node, loop) != loop:
            raise Unreadable(f"{term.node} is both inside and outside of a loop")
        if self._is_at("{"):
            self.position += 1
            self.loops.append(term.node)
            self.statements(loop=term.node)
            if not self._is_at("}"):
                raise Unreadable(f"the body of {term.node} has no end")
            self.position += 1
        return term

    def _is_at(self, sign: str) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position] == sign


def _edge(source: _Term, target: _Term, loop: NodeId | None) -> Edge:
    return Edge(source.node, target.node, On.BODY if source.node == loop else source.on, source.route)


def _plan(parser: _Parser, changes: Mapping[str, Mapping[str, Any]]) -> Plan:
    trigger = next(iter(parser.nodes))
    types = dict.fromkeys(parser.loops, "loop") | {trigger: "trigger_manual"}
    nodes = {node: PlanNode(node, types.get(node, "step"), loop) for node, loop in parser.nodes.items()}
    loops = {loop: Loop(loop, tuple(_returns(parser, loop))) for loop in parser.loops}
    led_to = {edge.target for edge in parser.edges}
    body_edges = [Edge(loop, node, On.BODY) for node, loop in parser.nodes.items() if loop and node not in led_to]
    for name, changed in changes.items():
        node = NodeId(name)
        of_loop = {key: value for key, value in changed.items() if node in loops and key in LOOP_FIELDS}
        if of_loop:
            loops[node] = replace(loops[node], **of_loop)
        nodes[node] = replace(nodes[node], **{key: value for key, value in changed.items() if key not in of_loop})
    return Plan(workflow_id=1, trigger=trigger, nodes=nodes, edges=(*parser.edges, *body_edges), loops=loops)


def _returns(parser: _Parser, loop: NodeId) -> Iterator[NodeId]:
    followed = {edge.source for edge in parser.edges if edge.on is not On.ERROR}
    return (node for node, around in parser.nodes.items() if around == loop and node not in followed)
