"""A switch takes the route of the first rule that holds, and hands on what came in."""

import pytest

from pipelit.errors import Invalid
from pipelit.nodes.logic.switch import Switch
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

SWITCH = Switch()
VIP: Json = {"field": "trigger.payload.vip", "operator": "is_true", "route": "vip"}
LARGE: Json = {"field": "trigger.payload.total", "operator": "gte", "value": "100", "route": "large"}


@pytest.mark.parametrize(
    ("payload", "route"),
    [
        ({"vip": True, "total": 500}, "vip"),
        ({"vip": False, "total": 100}, "large"),
        ({"total": 99}, "default"),
        ({}, "default"),
    ],
)
def test_the_first_rule_that_holds_decides(payload: Json, route: str) -> None:
    context = FakeContext({"trigger": {"payload": payload}}, brought({"kept": True}))

    outcome = run(SWITCH, {"rules": [VIP, LARGE]}, context)

    assert outcome == Completed({"route": route, "output": {"kept": True}}, route=route)


def test_the_default_route_has_the_authors_name() -> None:
    assert run(SWITCH, {"default": "rest"}) == Completed({"route": "rest", "output": None}, route="rest")


def test_an_empty_field_means_what_came_in() -> None:
    rule: Json = {"field": "", "operator": "gt", "value": 3, "route": "many"}

    outcome = run(SWITCH, {"rules": [rule]}, FakeContext(inputs=brought(4)))

    assert outcome == Completed({"route": "many", "output": 4}, route="many")


def test_a_rule_compares_with_what_an_expression_gives() -> None:
    rule: Json = {"field": "a.output", "operator": "gt", "value": "{{ limit.output }}", "route": "over"}
    context = FakeContext({"a": {"output": 11}, "limit": {"output": 10}})

    assert run(SWITCH, {"rules": [rule]}, context) == Completed({"route": "over", "output": None}, route="over")


def test_its_routes_are_those_of_its_rules_and_the_default() -> None:
    assert SWITCH.routes({"rules": [VIP, LARGE, VIP], "default": "rest"}) == ("vip", "large", "rest")
    assert SWITCH.routes({}) == ("default",)
    assert SWITCH.routes({"rules": "{{ not a list }}", "default": 5}) == ()


def test_it_reads_the_nodes_that_its_rules_name() -> None:
    rules: Json = [
        VIP,
        {"field": "hook.body.vip", "operator": "exists", "route": "x"},
        {"field": "", "operator": "exists"},
    ]

    assert SWITCH.reads({"rules": rules}) == ("trigger", "hook")


def test_a_rule_without_a_route_is_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        SWITCH.check({"rules": [VIP, {"field": "a", "operator": "exists"}]})

    assert list(refusal.value.errors) == ["config.rules.1.route"]
