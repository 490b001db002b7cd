"""A merge makes one value of several branches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.base import Input
from pipelit.nodes.logic.merge import Merge
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

MERGE = Merge()


def merged(mode: str, *values: Json, key: str | None = None) -> Json:
    config: dict[str, Json] = {"mode": mode} if key is None else {"mode": mode, "key": key}
    outcome = run(MERGE, config, FakeContext(inputs=brought(*values)))
    assert isinstance(outcome, Completed)
    return outcome.outputs["output"]


def test_one_taken_branch_passes_its_value_on() -> None:
    assert merged("all", {"from": "the only one"}) == {"from": "the only one"}


def test_several_branches_are_an_object_by_node() -> None:
    assert merged("all", 1, [2]) == {"a": 1, "b": [2]}
    assert merged("all") is None


def test_two_edges_from_one_node_are_told_apart_by_their_ports() -> None:
    inputs = (Input("a", 1, "status"), Input("a", 2, "body"), Input("b", 3))

    outcome = run(MERGE, {}, FakeContext(inputs=inputs))

    assert outcome == Completed({"output": {"a.status": 1, "a.body": 2, "b": 3}})


def test_any_goes_on_with_the_first() -> None:
    assert merged("any", "first", "second") == "first"
    assert not MERGE.waits_for_all({"mode": "any"})
    assert MERGE.waits_for_all({})


@given(st.lists(st.lists(st.integers()), max_size=4))
def test_append_is_concatenation(lists: list[Json]) -> None:
    assert merged("append", *lists) == [item for each in lists for item in each]


def test_append_takes_single_values_as_items() -> None:
    assert merged("append", [1, 2], "three", {"four": 4}) == [1, 2, "three", {"four": 4}]


def test_objects_with_the_same_key_become_one() -> None:
    people: Json = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}, {"name": "nobody"}]
    ages: Json = [{"id": "2", "age": 30}, {"id": 1.0, "age": 40, "name": "Ada L."}, {"id": 3, "age": 50}]

    assert merged("combine_by_key", people, ages, key="id") == [
        {"id": 1.0, "name": "Ada L.", "age": 40},
        {"id": 2, "name": "Bo"},
        {"name": "nobody"},
        {"id": "2", "age": 30},
        {"id": 3, "age": 50},
    ]


def test_the_key_may_be_deep_and_the_sources_stay_as_they_are() -> None:
    left: list[Json] = [{"user": {"id": 1}, "a": 1}]

    assert merged("combine_by_key", left, [{"user": {"id": 1}, "b": 2}], key="user.id") == [
        {"user": {"id": 1}, "a": 1, "b": 2}
    ]
    assert left == [{"user": {"id": 1}, "a": 1}]


def test_items_are_joined_by_position() -> None:
    assert merged("combine_by_position", [{"a": 1}, {"a": 2}], [{"b": 3}]) == [{"a": 1, "b": 3}, {"a": 2}]
    assert merged("combine_by_position", [1, 2], ["x"]) == [[1, "x"], [2]]
    assert merged("combine_by_position") == []


@pytest.mark.parametrize(
    ("mode", "values", "what"),
    [
        ("combine_by_position", ([1], "abc"), "b brought the text 'abc'"),
        ("combine_by_key", ([1],), "a brought 1"),
        ("combine_by_key", ({"id": 1},), "a brought an object with the keys id"),
    ],
)
def test_a_branch_that_cannot_be_combined_is_named(mode: str, values: tuple[Json, ...], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        merged(mode, *values, key="id")


def test_combining_by_key_needs_a_key() -> None:
    with pytest.raises(Invalid) as refusal:
        MERGE.check({"mode": "combine_by_key"})

    assert list(refusal.value.errors) == ["config.key"]
