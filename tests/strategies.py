"""Hypothesis strategies: plans, what becomes of their steps, and orders of delivery."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from pipelit.engine.core.graph import (
    Edge,
    FailurePolicy,
    Join,
    Loop,
    NodeId,
    On,
    OnError,
    OnItemError,
    Plan,
    PlanNode,
    Retry,
)
from tests.engine.core.driver import Answer, Behaviour, Fail, Iterate, Kind, Lose, Move, Succeed, Wait
from tests.graphs import graph

TRIGGER = NodeId("start")
MAX_DEPTH = 2
JOINS = (Join.ALL, Join.ALL, Join.ANY)

WAYS = ((On.SUCCESS, None), (On.ROUTE, "x"), (On.ERROR, None), (On.ROUTE, "y"))
TWICE, THRICE = Retry(attempts=2, initial=0.5), Retry(attempts=3, initial=2.0, ceiling=3.0, jitter=0.2)
POLICIES = (
    FailurePolicy(),
    FailurePolicy(on_error=OnError.CONTINUE),
    FailurePolicy(on_error=OnError.DEFAULT, default="instead"),
    FailurePolicy(retry=THRICE),
    FailurePolicy(retry=TWICE, on_error=OnError.CONTINUE),
    FailurePolicy(retry=THRICE, on_error=OnError.DEFAULT),
)
HOLDS = ((False, False), (False, False), (False, False), (True, False), (False, True), (True, True))
TWIGS = (
    "start -> n0, n1 -> n2",
    "start -> n0; n0.x -> n1; n0.y -> n2; n1, n2, n0!error -> n3",
    "start -> n0; n0.x -> n1 -> n2; n1, n2!error -> n3",
)
KNOTS = (
    "start -> n0{ n1 }",
    "start -> n0{ n1{ n2 -> n3 } }",
    "start -> n0{ n1{ n2 }; n3 }",
    "start -> n0{ n1.x -> n2; n1.y -> n3 }",
    "start -> n0{ n1.x -> n2 -> n3; n0 -> n3 }",
)
"""Plans with a reputation, drawn more often than chance would have them."""

STEP_ANSWERS: tuple[Answer, ...] = (
    Succeed(),
    Succeed("x"),
    Succeed("y"),
    Fail(),
    Fail(retryable=True),
    Fail(retryable=True, after=5.0),
    Lose(),
    Lose(is_safe=False),
    Wait(Succeed("x")),
    Wait(Fail(retryable=True)),
    Wait(Fail()),
)
LOOP_ANSWERS: tuple[Answer, ...] = (
    Iterate(2),
    Iterate(1),
    Iterate(3),
    Iterate(2),
    Iterate(4),
    Iterate(0),
    Fail(retryable=True),
    Lose(),
    Succeed("x"),
)


class Shape(StrEnum):
    """What plans look like: anything, no loops at all, or everything in one loop."""

    ANY = "any"
    BRANCHES = "branches"
    LOOP = "loop"


@dataclass(frozen=True, slots=True)
class Case:
    """A plan, what its steps answer, and how their messages are delivered."""

    plan: Plan
    behaviour: Behaviour
    schedule: tuple[Move, ...] = ()


@dataclass(slots=True)
class _Sketch:
    """A plan while it is drawn."""

    draw: DrawFn
    joins: Sequence[Join]
    policies: Sequence[FailurePolicy]
    shape: Shape
    nodes: dict[NodeId, PlanNode] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    loops: dict[NodeId, Loop] = field(default_factory=dict)

    def level(self, around: NodeId | None, depth: int) -> None:
        """Draw the nodes of the top level, or of one loop's body, each behind earlier ones of its level."""
        earlier: list[NodeId] = [TRIGGER] if around is None else []
        is_frame = self.shape is Shape.LOOP and around is None
        for _ in range(1 if is_frame else self.draw(st.integers(1, 4 - depth))):
            node = NodeId(f"n{len(self.nodes)}")
            self.node(node, "step", around)
            self._edges(node, around, earlier)
            earlier.append(node)
            if is_frame or self._has_room(depth):
                self.level(node, depth + 1)
                body = [inner.id for inner in self.nodes.values() if inner.loop == node]
                self.loop(node, tuple(self.draw(st.lists(st.sampled_from(body), max_size=2, unique=True))))

    def trace(self, plan: Plan) -> None:
        """Take the form of a plan, and draw the rest."""
        self.edges += plan.edges
        for node in plan.nodes.values():
            if node.id != TRIGGER:
                self.node(node.id, node.type, node.loop)
        for loop in plan.loops.values():
            self.loop(loop.node, loop.returns)

    def node(self, node: NodeId, type: str, around: NodeId | None) -> None:
        before, after = self.draw(st.sampled_from(HOLDS))
        self.nodes[node] = PlanNode(
            node,
            type,
            around,
            join=self.draw(st.sampled_from(self.joins)),
            policy=self.draw(st.sampled_from(self.policies)),
            interrupt_before=before,
            interrupt_after=after,
        )

    def _edges(self, node: NodeId, around: NodeId | None, earlier: Sequence[NodeId]) -> None:
        ways = [
            Edge(source, node, on, route)
            for source in reversed(earlier)
            for on, route in (WAYS if source != TRIGGER else WAYS[:1])
        ]
        if around is not None:
            ways.append(Edge(around, node, On.BODY))
        self.edges += self.draw(st.lists(st.sampled_from(ways), min_size=1, max_size=3, unique=True))

    def _has_room(self, depth: int) -> bool:
        return self.shape is not Shape.BRANCHES and depth < MAX_DEPTH and self.draw(st.integers(0, 2)) == 2

    def loop(self, node: NodeId, returns: tuple[NodeId, ...]) -> None:
        self.loops[node] = Loop(
            node,
            returns,
            concurrency=self.draw(st.integers(1, 3)),
            on_error=self.draw(st.sampled_from(OnItemError)),
        )


@st.composite
def plans(
    draw: DrawFn,
    joins: Sequence[Join] = JOINS,
    shape: Shape = Shape.ANY,
    form: str | None = None,
    policies: Sequence[FailurePolicy] = POLICIES,
) -> Plan:
    """Graphs with branches by route, error edges, joins, loops in loops, failure policies and holds.

    `form` is a line of `tests.graphs`, with nodes `start`, `n0`, `n1` and so on, of which only the rest is drawn.
    """
    sketch = _Sketch(draw, joins, policies, shape, {TRIGGER: PlanNode(TRIGGER, "trigger_manual")})
    known = {Shape.ANY: TWIGS + KNOTS, Shape.BRANCHES: TWIGS, Shape.LOOP: KNOTS}[shape]
    line = form or draw(st.none() | st.sampled_from(known))
    if line is None:
        sketch.level(None, depth=0)
    else:
        sketch.trace(graph(line))
    return Plan(draw(st.integers(1, 9)), TRIGGER, sketch.nodes, tuple(sketch.edges), sketch.loops)


@st.composite
def behaviours(draw: DrawFn, plan: Plan) -> Behaviour:
    """For every node the answers that its attempts give in turn."""
    return {
        node: tuple(
            draw(
                st.lists(st.sampled_from(LOOP_ANSWERS if node in plan.loops else STEP_ANSWERS), min_size=1, max_size=3)
            )
        )
        for node in plan.nodes
        if node != plan.trigger
    }


def schedules(*ends: Kind) -> SearchStrategy[tuple[Move, ...]]:
    """Orders of delivery with repeats, late answers and messages lost for a while; `ends` are the stops to mix in."""
    kinds = (Kind.DELIVER, Kind.DELIVER, Kind.REPEAT, Kind.CONTRADICT, Kind.DUPLICATE, Kind.DEFER, *ends)
    moves = st.builds(Move, st.sampled_from(kinds), st.integers(0, 40))
    return st.lists(moves, max_size=25).map(tuple)


@st.composite
def cases(
    draw: DrawFn,
    joins: Sequence[Join] = JOINS,
    shape: Shape = Shape.ANY,
    form: str | None = None,
    policies: Sequence[FailurePolicy] = POLICIES,
    ends: Sequence[Kind] = (),
) -> Case:
    """All of the above; `ends` are the stops that the schedule may hold."""
    plan = draw(plans(joins, shape, form, policies))
    return Case(plan, draw(behaviours(plan)), draw(schedules(*ends)))
