"""A filter sorts a list in two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.logic.filter import Filter
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

FILTER = Filter()
CHEAP: Json = {"field": "price.amount", "operator": "lte", "value": 20}
RED: Json = {"field": "colour", "operator": "equals", "value": "red"}
THINGS: list[Json] = [
    {"price": {"amount": 5}, "colour": "red"},
    {"price": {"amount": 50}, "colour": "red"},
    {"price": {"amount": "20"}},
    "no thing",
]


def test_items_that_fulfil_all_rules_are_kept_in_their_order() -> None:
    outcome = run(FILTER, {"rules": [CHEAP]}, FakeContext(inputs=brought(THINGS)))

    assert outcome == Completed({"items": [THINGS[0], THINGS[2]], "rejected": [THINGS[1], THINGS[3]]})
    assert run(FILTER, {"rules": [CHEAP, RED]}, FakeContext(inputs=brought(THINGS))).outputs["items"] == THINGS[:1]


def test_one_rule_is_enough_when_the_author_says_so() -> None:
    outcome = run(FILTER, {"rules": [CHEAP, RED], "match": "any"}, FakeContext(inputs=brought(THINGS)))

    assert outcome == Completed({"items": THINGS[:3], "rejected": THINGS[3:]})


def test_the_list_may_come_from_an_expression() -> None:
    config: dict[str, Json] = {"items": "{{ a.output }}", "rules": [{"field": "", "operator": "gt", "value": 1}]}

    assert run(FILTER, config, FakeContext({"a": {"output": [1, 2, 3]}})) == Completed(
        {"items": [2, 3], "rejected": [1]}
    )


@given(st.lists(st.integers(-5, 5)))
def test_nothing_is_lost_or_made_up(items: list[Json]) -> None:
    rule: Json = {"field": "", "operator": "gt", "value": 0}

    outcome = run(FILTER, {"rules": [rule]}, FakeContext(inputs=brought(items)))

    assert isinstance(outcome, Completed)
    assert sorted([*outcome.outputs["items"], *outcome.outputs["rejected"]]) == sorted(items)


@pytest.mark.parametrize(
    ("inputs", "what"),
    [((), "null"), (({"a": 1, "b": 2},), "an object with the keys a, b"), (("abc",), "the text 'abc'"), ((5,), "5")],
)
def test_what_is_no_list_is_described(inputs: tuple[Json, ...], what: str) -> None:
    with pytest.raises(ConfigError, match=f"^items: the input is not a list but {what}"):
        run(FILTER, {"rules": [CHEAP]}, FakeContext(inputs=brought(*inputs)))


def test_an_edge_that_names_no_port_carries_the_items() -> None:
    assert FILTER.value({"items": [1], "rejected": [2]}) == [1]


def test_items_that_are_no_list_are_refused_before_it_runs() -> None:
    with pytest.raises(Invalid) as refused:
        FILTER.check({"items": 5, "rules": [{"field": "a", "operator": "exists"}]})

    assert refused.value.errors == {"config.items": ["items is not a list but 5. Name the list by an expression."]}
