"""An aggregator computes one value from many."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.logic.aggregator import Aggregator
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

AGGREGATOR = Aggregator()
NUMBERS = st.lists(st.integers() | st.floats(-1e12, 1e12), min_size=1, max_size=20)
THINGS: list[Json] = [
    {"kind": "fruit", "name": "pear", "price": 3},
    {"kind": "tool", "name": "saw", "price": "12.5"},
    {"kind": "fruit", "name": "fig", "price": None},
    {"name": "gift"},
]


def aggregated(operation: str, *values: Json, **settings: Json) -> Json:
    outcome = run(AGGREGATOR, {"operation": operation, **settings}, FakeContext(inputs=brought(*values)))
    assert isinstance(outcome, Completed)
    return outcome.outputs["output"]


@given(st.lists(st.integers()))
def test_sums_of_integers_are_exact(numbers: list[Json]) -> None:
    assert aggregated("sum", numbers) == sum(numbers)


@given(NUMBERS)
def test_sums_are_rounded_once(numbers: list[Json]) -> None:
    assert aggregated("sum", numbers) == pytest.approx(float(sum(Fraction(number) for number in numbers)), rel=1e-15)


@given(NUMBERS)
def test_least_greatest_and_average_are_what_they_are_called(numbers: list[Json]) -> None:
    average = sum(Fraction(number) for number in numbers) / len(numbers)

    assert aggregated("min", numbers) == min(numbers)
    assert aggregated("max", numbers) == max(numbers)
    assert aggregated("avg", numbers) == pytest.approx(float(average), rel=1e-12)


@given(st.lists(st.integers(0, 4) | st.sampled_from(["a", "b"]), max_size=20))
def test_unique_keeps_each_value_where_it_came_first(values: list[Json]) -> None:
    assert aggregated("unique", values) == list(dict.fromkeys(values))


@given(st.lists(st.sampled_from("abc")))
def test_groups_are_a_partition(kinds: list[str]) -> None:
    items: list[Json] = [{"kind": kind, "number": number} for number, kind in enumerate(kinds)]

    groups = aggregated("group", items, by="kind")

    assert isinstance(groups, dict)
    assert sorted([item for group in groups.values() for item in group], key=lambda item: item["number"]) == items
    assert aggregated("count", items, by="kind") == {name: len(group) for name, group in groups.items()}


@pytest.mark.parametrize(
    ("operation", "settings", "expected"),
    [
        ("count", {}, 4),
        ("count", {"field": "price"}, 2),
        ("sum", {"field": "price"}, 15.5),
        ("avg", {"field": "price"}, 7.75),
        ("max", {"field": "price"}, "12.5"),
        ("concat", {"field": "name", "separator": "/"}, "pear/saw/fig/gift"),
        ("unique", {"field": "kind"}, ["fruit", "tool"]),
        ("sum", {"field": "price", "by": "kind"}, {"fruit": 3, "tool": 12.5, "null": 0}),
        ("avg", {"field": "missing"}, None),
        ("min", {"field": "missing"}, None),
    ],
)
def test_operations_by_example(operation: str, settings: dict[str, Json], expected: Json) -> None:
    assert aggregated(operation, THINGS, **settings) == expected


def test_all_that_came_in_is_one_list() -> None:
    assert aggregated("sum", [1, 2], 3, [4.5]) == 10.5


def test_unique_tells_true_from_one_and_takes_one_for_one_point_nothing() -> None:
    assert aggregated("unique", [1, True, 1.0, "1", {"a": 1.0}, {"a": 1}]) == [1, True, "1", {"a": 1.0}]


def test_times_have_an_earliest_and_a_latest() -> None:
    times: Json = ["2024-05-01", "2023-12-31T23:00:00Z", "2024-01-01T00:00:00+02:00"]

    assert aggregated("min", times) == "2024-01-01T00:00:00+02:00"
    assert aggregated("max", times) == "2024-05-01"


@pytest.mark.parametrize(
    ("operation", "values", "settings", "what"),
    [
        (
            "sum",
            [{"price": "free"}],
            {"field": "price"},
            "sum needs a number, but 'price' of item 0 is the text 'free'",
        ),
        ("avg", [1, True], {}, "avg needs a number, but item 1 is true"),
        ("max", [1, "abc"], {}, "max needs comparable with 1, but item 1 is the text 'abc'"),
        ("concat", [["a"]], {}, "concat needs a text, but item 0 is a list of 1"),
        ("sum", [1e308, 1e308], {}, "too large"),
        ("avg", [10**400, 1], {}, "too large"),
    ],
)
def test_an_item_that_does_not_fit_is_named(
    operation: str, values: list[Json], settings: dict[str, Json], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        aggregated(operation, values, **settings)


def test_the_list_of_an_expression_must_be_one() -> None:
    with pytest.raises(ConfigError, match=r"^items: items is not a list but an object with the keys a"):
        run(AGGREGATOR, {"items": "{{ x.output }}"}, FakeContext({"x": {"output": {"a": 1}}}))


def test_grouping_needs_something_to_group_by() -> None:
    with pytest.raises(Invalid) as refusal:
        AGGREGATOR.check({"operation": "group"})

    assert list(refusal.value.errors) == ["config.by"]
