"""The line language that tests write plans in."""

import pytest

from pipelit.engine.core.graph import Edge, Join, NodeId, On
from tests.graphs import Unreadable, graph

A, B, C, L, M, X, Y = (NodeId(name) for name in "abcLMxy")


def test_edges_say_when_they_are_taken() -> None:
    plan = graph("a -> b; b.other -> c; b!error -> c")

    assert plan.trigger == A
    assert plan.edges == (Edge(A, B), Edge(B, C, On.ROUTE, "other"), Edge(B, C, On.ERROR))


def test_lists_and_chains_stand_for_every_edge_between_them() -> None:
    assert graph("a, b -> c -> x, y").edges == (Edge(A, C), Edge(B, C), Edge(C, X), Edge(C, Y))


def test_a_body_is_entered_where_nothing_leads_and_returns_what_nothing_follows() -> None:
    plan = graph("a -> L{ x -> y; y!error -> M{ b } } -> c", L={"concurrency": 3}, c={"join": Join.ANY})

    assert plan.entries == {L: (X,), M: (B,)}
    assert (plan.loops[L].returns, plan.loops[L].concurrency) == ((Y, M), 3)
    assert {node.id: node.loop for node in plan.nodes.values()} == {A: None, L: None, X: L, Y: L, M: L, B: M, C: None}
    assert plan.nodes[C].join is Join.ANY


def test_items_may_enter_a_step_that_others_lead_to() -> None:
    assert graph("a -> L{ x -> y; L -> y }").entries == {L: (Y, X)}


@pytest.mark.parametrize(
    "text", ["a -> ; b", "a -> L{ b", "a -> b }", "a -> L{ b }; b -> c", "a => b", "a -> b { ; }, -> c", ""]
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        graph(text)


def test_only_nodes_of_the_plan_can_be_changed() -> None:
    with pytest.raises(Unreadable, match="has no node b"):
        graph("a", b={"join": Join.ANY})
