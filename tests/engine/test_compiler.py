"""From rows to a Plan: every problem at once, and only those of what the trigger reaches."""

import pytest

from pipelit.engine.compiler import compile_plan, problems
from pipelit.engine.core.graph import Edge, Join, On, OnError, OnItemError, Retry
from pipelit.errors import InvalidGraph
from tests.engine.drawings import LOOP, Drawing, draw, node

START = {"start": "trigger_manual"}


def found(drawing: Drawing) -> set[tuple[str, str | None]]:
    """The problems of a drawing: code and node."""
    return {(problem.code, problem.node_id) for problem in problems(*drawing)}


def compiled(drawing: Drawing, trigger: str = "start"):
    return compile_plan(1, *drawing, trigger)


def template(text: str = "") -> tuple[str, dict[str, str]]:
    return "template", {"template": text}


CASES = {
    "no_trigger": (draw({"a": template()}), {("no_trigger", None)}),
    "missing_node": (draw({**START, "a": template()}, "start -> a; a -> gone"), {("missing_node", None)}),
    "unknown_type": (draw({**START, "a": "no_such_type"}, "start -> a"), {("unknown_type", "a")}),
    "config_invalid": (draw({**START, "a": ("template", {})}, "start -> a"), {("config_invalid", "a")}),
    "expression_syntax": (draw({**START, "a": template("{{ trigger. }}")}, "start -> a"), {("expression_syntax", "a")}),
    "unknown_name": (draw({**START, "a": template("{{ nobody.output }}")}, "start -> a"), {("unknown_name", "a")}),
    "not_before": (
        draw({**START, "a": template("{{ b.output }}"), "b": template()}, "start -> a; a -> b"),
        {("not_before", "a")},
    ),
    "not_before_beside": (
        draw({**START, "a": template("{{ b.output }}"), "b": template()}, "start -> a; start -> b"),
        {("not_before", "a")},
    ),
    "itself": (draw({**START, "a": template("{{ a.output }}")}, "start -> a"), {("not_before", "a")}),
    "inside_loop": (
        draw(
            {**START, "each": LOOP, "a": template(), "b": template("{{ a.output }}")},
            "start -> each; each =body=> a; a =return=> each; each -> b",
        ),
        {("inside_loop", "b")},
    ),
    "own_loop": (
        draw(
            {**START, "each": LOOP, "a": template("{{ each.item }}")},
            "start -> each; each =body=> a; a =return=> each",
        ),
        {("own_loop", "a")},
    ),
    "items_no_list": (
        draw(
            {**START, "each": ("loop", {"items": 5}), "a": template()},
            "start -> each; each =body=> a; a =return=> each",
        ),
        {("config_invalid", "each")},
    ),
    "edge_crosses_loop": (
        draw(
            {**START, "each": LOOP, "a": template(), "b": template()},
            "start -> each; start -> b; each =body=> a; a =return=> each; b -> a",
        ),
        {("edge_crosses_loop", "b")},
    ),
    "loop_without_body": (draw({**START, "each": LOOP}, "start -> each"), {("loop_without_body", "each")}),
    "cycle": (
        draw({**START, "a": template(), "b": template()}, "start -> a; a -> b; b -> a"),
        {("cycle", "a")},
    ),
    "loop_return_outside": (
        draw(
            {**START, "each": LOOP, "a": template(), "b": template()},
            "start -> each; each =body=> a; start -> b; b =return=> each",
        ),
        {("loop_return_outside", "b")},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_problem_has_a_code_and_a_place(case: str) -> None:
    drawing, expected = CASES[case]

    assert expected <= found(drawing)


def test_every_problem_is_reported_at_once() -> None:
    drawing = draw(
        {
            "a": template("{{ nobody.output }} {{ trigger. }}"),
            "b": "no_such_type",
            "c": ("http_request", {"method": "SHOUT", "nonsense": 1}),
            "each": LOOP,
            "d": template(),
            "e": template("{{ d.output }}"),
        },
        "a -> b; d -> e; e -> d; a -> gone",
    )

    codes = [code for code, _ in found(drawing)]

    assert {"expression_syntax", "unknown_type", "config_invalid", "cycle", "missing_node", "no_trigger"} <= set(codes)
    assert "loop_without_body" in codes
    assert len([p for p in problems(*drawing) if p.code == "config_invalid" and p.node_id == "c"]) >= 2


def test_a_misspelt_name_is_answered_with_the_closest_one() -> None:
    drawing = draw(
        {**START, "greeting": template(), "b": template("{{ greting.output }}")}, "start -> greeting; greeting -> b"
    )

    (problem,) = problems(*drawing)

    assert "Did you mean 'greeting'?" in problem.message


def test_a_plan_is_refused_with_all_its_problems() -> None:
    drawing = draw({**START, "a": template("{{ x.y }}"), "b": "no_such_type"}, "start -> a; a -> b")

    with pytest.raises(InvalidGraph) as refused:
        compiled(drawing)

    assert {problem.code for problem in refused.value.problems} == {"unknown_name", "unknown_type"}


def test_what_the_trigger_does_not_reach_is_none_of_the_executions_business() -> None:
    drawing = draw(
        {
            **START,
            "other": "trigger_manual",
            "a": template("{{ trigger.text }}"),
            "draft": template("{{ nobody.output }}"),
            "half": "no_such_type",
        },
        "start -> a; other -> draft",
    )

    plan = compiled(drawing)

    assert set(plan.nodes) == {"start", "a"}
    assert len(problems(*drawing)) == 2
    with pytest.raises(InvalidGraph):
        compiled(drawing, "other")


def test_a_node_that_two_triggers_reach_waits_only_for_what_this_one_reaches() -> None:
    drawing = draw({**START, "hook": "trigger_manual", "a": template()}, "start -> a; hook -> a")

    assert [edge.source for edge in compiled(drawing).incoming["a"]] == ["start"]


def test_edges_of_a_higher_priority_come_first() -> None:
    nodes, edges = draw(
        {**START, "a": template(), "b": template(), "c": template()}, "start -> a; start -> b; start -> c"
    )
    edges[2].priority, edges[1].priority = 9, 5

    assert [edge.target for edge in compiled((nodes, edges)).outgoing["start"]] == ["c", "b", "a"]


def test_edges_say_when_they_are_taken() -> None:
    switch = ("switch", {"rules": [{"field": "trigger.text", "operator": "equals", "value": "x", "route": "x"}]})
    drawing = draw(
        {**START, "s": switch, "a": template(), "b": template(), "sorry": template()},
        "start -> s; s.x -> a; s.default -> b; a!error -> sorry",
    )

    plan = compiled(drawing)

    assert set(plan.edges) == {
        Edge("start", "s"),
        Edge("s", "a", On.ROUTE, "x"),
        Edge("s", "b", On.ROUTE, "default"),
        Edge("a", "sorry", On.ERROR, source_port="error"),
    }


def test_a_mapping_of_routes_is_an_edge_for_each() -> None:
    switch = (
        "switch",
        {"rules": [{"field": "trigger.text", "operator": "equals", "value": v, "route": v} for v in "xy"]},
    )
    nodes, edges = draw({**START, "s": switch, "a": template()}, "start -> s; s.x -> a")
    edges[1].condition_mapping = {"x": "a", "y": "a", "z": "elsewhere"}

    assert [(edge.on, edge.route) for edge in compiled((nodes, edges)).outgoing["s"]] == [
        (On.ROUTE, "x"),
        (On.ROUTE, "y"),
    ]


def test_loops_know_their_body_their_results_and_how_they_run() -> None:
    drawing = draw(
        {
            **START,
            "outer": ("loop", {"items": [1], "concurrency": 3, "on_error": "collect"}),
            "inner": LOOP,
            "a": template("{{ loop.item }}"),
            "b": template("{{ inner.results }}"),
        },
        "start -> outer; outer =body=> inner; inner =body=> a; a =return=> inner; inner -> b; b =return=> outer",
    )

    plan = compiled(drawing)

    assert (plan.members["outer"], plan.members["inner"]) == (("inner", "b"), ("a",))
    assert (plan.loops["outer"].returns, plan.loops["outer"].concurrency) == (("b",), 3)
    assert plan.loops["outer"].on_error is OnItemError.COLLECT
    assert plan.entries["outer"] == ("inner",)


def test_settings_of_failure_joining_and_holding_are_in_the_plan() -> None:
    nodes, edges = draw(
        {**START, "a": template(), "any": ("merge", {"mode": "any"}), "all": ("merge", {})},
        "start -> a; a -> any; a -> all",
    )
    policy = {"retry": {"attempts": 4, "initial": 2.0}, "on_error": "default", "default": 7, "timeout": 9.0}
    nodes[1] = node("a", "template", {"template": "", "failure": policy}, interrupt_before=True, interrupt_after=True)

    plan = compiled((nodes, edges))

    known = plan.nodes["a"]
    assert (known.policy.retry, known.policy.on_error) == (Retry(attempts=4, initial=2.0), OnError.DEFAULT)
    assert (known.policy.default, known.policy.timeout) == (7, 9.0)
    assert (known.interrupt_before, known.interrupt_after) == (True, True)
    assert (plan.nodes["any"].join, plan.nodes["all"].join) == (Join.ANY, Join.ALL)


def test_a_node_reads_what_its_expressions_and_its_paths_name() -> None:
    rules = [{"field": "a.output", "operator": "equals", "value": "{{ b.output }}", "route": "x"}]
    drawing = draw(
        {**START, "a": template(), "b": template(), "s": ("switch", {"rules": rules})}, "start -> a; a -> b; b -> s"
    )

    assert compiled(drawing).nodes["s"].reads == ("a", "b")


def test_who_reads_a_loop_around_it_is_told_what_to_write_instead() -> None:
    nodes, edges = draw(
        {**START, "outer": LOOP, "inner": LOOP, "a": template("{{ outer.item }} {{ inner.item }}")},
        "start -> outer; outer =body=> inner; inner =body=> a; a =return=> inner; inner =return=> outer",
    )

    told = [problem.message for problem in problems(nodes, edges) if problem.code == "own_loop"]

    assert [message.partition("Write ")[2] for message in told] == [
        "loop.item, loop.index or loop.total.",
        "loop.parent.item, loop.parent.index or loop.parent.total.",
    ]
