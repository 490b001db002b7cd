"""How nodes hang together, compared with plainer ways to find it out."""

from itertools import pairwise, permutations

from hypothesis import given
from hypothesis import strategies as st

from pipelit.engine.topology import Topology
from tests.engine.drawings import topology

NODES = "abcdef"
GRAPHS = st.sets(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)), max_size=12)


def drawn(edges: set[tuple[str, str]]) -> Topology:
    return topology(NODES, "; ".join(f"{source} -> {target}" for source, target in sorted(edges)))


def reaches(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which node leads to which, by at least one edge: the closure after Warshall."""
    closure = set(edges)
    for middle in NODES:
        closure |= {(a, b) for a, x in closure if x == middle for y, b in closure if y == middle}
    return closure


@given(GRAPHS)
def test_there_is_a_circle_exactly_when_no_order_of_the_nodes_fits(edges: set[tuple[str, str]]) -> None:
    fits = any(
        all(order.index(source) < order.index(target) for source, target in edges) for order in permutations(NODES)
    )

    assert bool(list(drawn(edges).circles())) is not fits


@given(GRAPHS)
def test_each_group_of_nodes_that_lead_to_one_another_is_one_circle(edges: set[tuple[str, str]]) -> None:
    closure = reaches(edges)
    groups = {frozenset(b for b in NODES if (a, b) in closure and (b, a) in closure) for a in NODES} - {frozenset()}

    found = list(drawn(edges).circles())

    assert {frozenset(problem.message.partition(": ")[2].partition(".")[0].split(", ")) for problem in found} == groups
    assert len(found) == len(groups)


@given(GRAPHS, st.sampled_from(NODES))
def test_what_is_reached_is_what_the_closure_says(edges: set[tuple[str, str]], start: str) -> None:
    closure = reaches(edges)

    assert drawn(edges).reachable([start]) == {start} | {node for node in NODES if (start, node) in closure}


@given(GRAPHS)
def test_without_circles_the_ancestors_are_what_leads_here(edges: set[tuple[str, str]]) -> None:
    forward = {(source, target) for source, target in edges if source < target}
    closure = reaches(forward)

    found = drawn(forward).ancestors

    assert {(a, b) for b, before in found.items() for a in before} == closure


@given(st.lists(st.sampled_from("PQR"), unique=True, min_size=1), st.permutations(range(6)))
def test_loops_in_one_another_are_known_from_the_outside_in(loops: list[str], order: list[int]) -> None:
    inner = "; ".join(f"{outer} =body=> {loop}; {loop} =return=> {outer}" for outer, loop in pairwise(loops))
    whole = f"a -> {loops[0]}; {inner}; {loops[-1]} =body=> b; b -> c; c =return=> {loops[-1]}; {loops[0]} -> d"
    parts = [part for part in whole.split("; ") if part]
    shuffled = "; ".join(parts[index] for index in order if index < len(parts))
    rest = "; ".join(parts[len(order) :])

    found = topology("abcd" + "".join(loops), f"{shuffled}; {rest}")

    assert found.loops_around["b"] == found.loops_around["c"] == tuple(loops)
    assert found.loops_around["a"] == found.loops_around["d"] == ()
    assert [found.loops_around[loop] for loop in loops] == [tuple(loops[:depth]) for depth in range(len(loops))]
    assert list(found.crossings()) == list(found.circles()) == []


def test_an_edge_into_or_out_of_a_body_crosses_its_border() -> None:
    into = topology("abL", "a -> L; L =body=> b; b =return=> L; a -> b")
    out = topology("abcL", "a -> L; L =body=> b; b =return=> L; L -> c; b -> c")

    assert [problem.code for problem in into.crossings()] == ["edge_crosses_loop"]
    assert "edge_crosses_loop" in [problem.code for problem in out.crossings()]


def test_two_loops_cannot_share_a_body() -> None:
    found = topology("abLM", "a -> L; a -> M; L =body=> b; M =body=> b; b =return=> L")

    assert "loops_overlap" in {problem.code for problem in found.crossings()}


def test_a_return_leads_to_the_loop_around_it_and_to_no_other() -> None:
    found = topology("abLM", "a -> L; L =body=> M; M =body=> b; b =return=> L")

    assert "loop_return_outside" in {problem.code for problem in found.crossings()}


def test_edges_to_nowhere_are_left_out() -> None:
    found = topology("ab", "a -> b; b -> gone; gone -> a")

    assert found.successors == {"a": ("b",), "b": ()}
    assert list(found.circles()) == []
