"""Every small graph, every way its steps can end, every order of delivery: nothing is left to chance.

From each state all messages in flight are delivered in turn, and every event that was ever told is told again. The
states that are reached are few, because orders that lead to the same state are the same from there on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations, product

import pytest

from pipelit.engine.core.commands import Finish, HoldStep, RunStep
from pipelit.engine.core.events import Event, Started
from pipelit.engine.core.graph import Edge, FailurePolicy, Join, Loop, NodeId, On, OnError, OnItemError, Plan, PlanNode
from pipelit.engine.core.scheduler import advance
from pipelit.engine.core.state import ExecutionStatus, State, StepId
from tests.engine.core.driver import Answer, Behaviour, Fail, Iterate, Message, Succeed, answer_of, worked
from tests.engine.core.oracle import Oracle
from tests.graphs import graph

TRIGGER, A, B, C, LOOP = (NodeId(name) for name in ("start", "a", "b", "c", "L"))
CONTINUE = FailurePolicy(on_error=OnError.CONTINUE)
ENDS: Mapping[On, Answer] = {On.SUCCESS: Succeed(), On.ROUTE: Succeed("x"), On.ERROR: Fail()}
"""For every kind of edge the end of its source that takes it."""
FATES: tuple[Answer, ...] = (Succeed(), Fail())
PAIRS = tuple(combinations((TRIGGER, A, B, C), 2))


def test_every_graph_of_three_steps_behind_a_trigger() -> None:
    explored = 0
    for plan in _graphs():
        for behaviour in _behaviours(plan):
            explored += _explore(plan, behaviour)

    assert explored > 10_000, "states, each reached by every order of delivery"


@pytest.mark.parametrize("on_error", OnItemError)
def test_every_loop_around_two_steps(on_error: OnItemError) -> None:
    explored = 0
    for plan, ends in product(_loops(on_error), product(FATES, repeat=2)):
        behaviour: Behaviour = {LOOP: (Iterate(3),), A: (ends[0], Succeed("x")), B: (Succeed(), ends[1])}
        explored += _explore(plan, behaviour)

    assert explored > 1_000


@pytest.mark.parametrize("outer", OnItemError)
@pytest.mark.parametrize("inner", OnItemError)
def test_every_order_of_two_loops(outer: OnItemError, inner: OnItemError) -> None:
    plan = graph("start -> L{ M{ a }; b }", L={"concurrency": 2, "on_error": outer}, M={"on_error": inner})
    for a, b in product(((Succeed(),), (Succeed(), Fail())), repeat=2):
        _explore(plan, {LOOP: (Iterate(2),), NodeId("M"): (Iterate(1), Iterate(2)), A: a, B: b})


def _graphs() -> Iterator[Plan]:
    """All graphs in which three steps follow a trigger, each led to by an earlier one, each join patient or not."""
    ways: list[tuple[On | None, ...]] = [(None, On.SUCCESS) if one == TRIGGER else (None, *ENDS) for one, _ in PAIRS]
    for kinds in product(*ways):
        edges = [_edge(*pair, on) for pair, on in zip(PAIRS, kinds, strict=True) if on is not None]
        if {edge.target for edge in edges} == {A, B, C}:
            yield from _joined(Plan(1, TRIGGER, {node: _node(node) for node in (TRIGGER, A, B, C)}, tuple(edges)))


def _loops(on_error: OnItemError) -> Iterator[Plan]:
    """Loops around every graph of two steps, the second of which may be entered as well; failing steps stop."""
    bodies: list[tuple[Edge, ...]] = [(Edge(LOOP, A, On.BODY), Edge(LOOP, B, On.BODY))]
    for on in ENDS:
        bodies += [(Edge(LOOP, A, On.BODY), _edge(A, B, on)), (*bodies[0], _edge(A, B, on))]
    for body, concurrency, policy in product(bodies, (1, 2), (FailurePolicy(), CONTINUE)):
        nodes = {node: _node(node) for node in (TRIGGER, LOOP)}
        nodes |= {node: replace(_node(node), loop=LOOP, policy=policy) for node in (A, B)}
        loop = Loop(LOOP, (B, A), concurrency, on_error)
        yield from _joined(Plan(1, TRIGGER, nodes, (Edge(TRIGGER, LOOP), *body), {LOOP: loop}))


def _joined(plan: Plan) -> Iterator[Plan]:
    """The plan with every choice of what its joins wait for."""
    joins = [node for node in plan.nodes if len(plan.incoming[node]) > 1]
    for choice in product(Join, repeat=len(joins)):
        changed = {node: replace(plan.nodes[node], join=join) for node, join in zip(joins, choice, strict=True)}
        yield Plan(1, TRIGGER, {**plan.nodes, **changed}, plan.edges, plan.loops)


def _node(node: NodeId) -> PlanNode:
    return PlanNode(node, "step", policy=CONTINUE)


def _edge(source: NodeId, target: NodeId, on: On) -> Edge:
    return Edge(source, target, on, "x" if on is On.ROUTE else None)


def _behaviours(plan: Plan) -> Iterator[Behaviour]:
    """Every way the steps can end that some edge tells from another."""
    steps = [node for node in plan.nodes if node != TRIGGER]
    ends = [_ends({edge.on for edge in plan.outgoing[node]}) for node in steps]
    return ({node: (end,) for node, end in zip(steps, choice, strict=True)} for choice in product(*ends))


def _ends(kinds: set[On]) -> list[Answer]:
    if not kinds:
        return [Succeed()]
    return [Succeed(), Fail(), *([ENDS[On.ROUTE]] if On.ROUTE in kinds else [])]


def _explore(plan: Plan, behaviour: Behaviour) -> int:
    """Walk through all orders of delivery and compare where they end; the answer is the number of states."""
    oracle = Oracle.of(plan, behaviour)
    begin: tuple[State, frozenset[Message], frozenset[Event]] = (State(), frozenset({Started()}), frozenset())
    seen, waiting = set(), [begin]
    while waiting:
        state, bag, told = waiting.pop()
        key = (state.status, frozenset(state.steps.items()), bag, told)
        if key in seen:
            continue
        seen.add(key)
        for event in told:
            assert advance(plan, state, event)[0] is state, "told twice, an event counts once"
        if state.status.is_final:
            _check_end(state, oracle)
            continue
        assert bag, f"nothing is left to deliver, and {state} waits"
        for message in bag:
            event = _reply(plan, behaviour, message)
            after, commands = advance(plan, state, event)
            sent = {command for command in commands if isinstance(command, RunStep | HoldStep)}
            assert not sent & bag, "nothing is sent twice"
            assert sum(isinstance(command, Finish) for command in commands) == after.status.is_final
            waiting.append((after, (bag - {message}) | sent, told | {event}))
    return len(seen)


def _reply(plan: Plan, behaviour: Behaviour, message: Message) -> Event:
    if isinstance(message, Started):
        return message
    assert isinstance(message, RunStep)
    return worked(message.step, message.attempt, answer_of(plan, behaviour, message.step, message.attempt))


def _check_end(state: State, oracle: Oracle) -> None:
    assert state.status is oracle.status
    if state.status is ExecutionStatus.COMPLETED:
        ends = {step: str(fate.end) for step, fate in oracle.fates.items() if not step.scope}
        assert {step: str(known.status) for step, known in state.steps.items()} == ends
    else:
        assert StepId(TRIGGER) in state.steps
