"""Conditions: values compare by their sense, opposites are opposites, and nothing that is found makes them fail."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import Invalid
from pipelit.nodes import registry
from pipelit.nodes.rules import OPPOSITES, Condition, Operator, holds, is_met, roots
from pipelit.nodes.values import MISSING, as_time, equal, find, identity
from tests.support.examples import examples

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
ODD = st.sampled_from(
    [
        "5",
        "05",
        "1e999",
        "1_0",
        "٣",
        "2024-01-01",
        "2024-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00+14:00",
        "true",
        "[",
        10**400,
    ]
)
JSON = st.recursive(
    SCALARS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("operator", list(Operator))
@examples(25)
@given(JSON | st.just(MISSING), JSON)
def test_a_condition_never_fails_whatever_it_finds(operator: Operator, actual: Any, expected: Any) -> None:
    assert holds(operator, actual, expected) in (True, False)


@given(st.sampled_from(sorted(OPPOSITES)), JSON, JSON)
def test_a_not_operator_is_the_opposite_of_the_other(operator: Operator, actual: Any, expected: Any) -> None:
    assert holds(operator, actual, expected) is not holds(OPPOSITES[operator], actual, expected)


@given(st.sampled_from(sorted(set(Operator) - {Operator.DOES_NOT_EXIST, Operator.IS_EMPTY})), JSON)
def test_nothing_holds_of_what_is_not_there(operator: Operator, expected: Any) -> None:
    assert not is_met(Condition(field="a.b", operator=operator, value=expected), {"a": {}})


@given(JSON, JSON)
def test_equality_is_reflexive_and_symmetric(one: Any, other: Any) -> None:
    assert equal(one, one)
    assert equal(one, other) is equal(other, one)


@given(JSON, JSON)
def test_what_is_the_same_json_is_equal(one: Any, other: Any) -> None:
    if identity(one) == identity(other):
        assert equal(one, other)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.integers())
def test_numbers_are_ordered_as_numbers(one: float, other: int) -> None:
    found = [holds(operator, one, str(other)) for operator in (Operator.LT, Operator.EQUALS, Operator.GT)]

    assert found == [one < other, one == other, one > other]
    assert holds(Operator.LTE, one, other) is (found[0] or found[1])
    assert holds(Operator.GTE, one, other) is (found[2] or found[1])


@given(st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1)), st.integers(-14, 14))
def test_times_are_ordered_whatever_their_zones(naive: datetime, hours: int) -> None:
    there = naive.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
    later = (there + timedelta(seconds=1)).isoformat()

    assert as_time(naive.isoformat()) == as_time(there.isoformat())
    assert holds(Operator.AFTER, later, naive.isoformat())
    assert holds(Operator.BEFORE_OR_EQUAL, there.isoformat(), naive.isoformat() + "Z")


@pytest.mark.parametrize(
    ("operator", "actual", "expected", "is_met"),
    [
        ("equals", 5, "5", True),
        ("equals", 1.0, "1", True),
        ("equals", "1.0", "1", False),
        ("equals", True, "true", True),
        ("equals", "False", False, True),
        ("equals", True, 1, False),
        ("equals", None, None, True),
        ("equals", None, "", False),
        ("equals", [1, {"a": 2}], ["1", {"a": 2.0}], True),
        ("equals", [1], [1, 2], False),
        ("equals", "a", "A", False),
        ("exists", None, None, False),
        ("exists", 0, None, True),
        ("does_not_exist", None, None, True),
        ("is_empty", "", None, True),
        ("is_empty", [], None, True),
        ("is_empty", 0, None, False),
        ("is_not_empty", {"a": 1}, None, True),
        ("is_not_empty", None, None, False),
        ("in", "b", "a, b", True),
        ("in", 2, [1, "2"], True),
        ("not_in", 3, [1, 2], True),
        ("contains", "haystack", "st", True),
        ("contains", [1, 2], "1", True),
        ("contains", {"a": 1}, "a", True),
        ("contains", 123, "2", False),
        ("not_contains", None, "a", True),
        ("starts_with", 49151, "49", True),
        ("ends_with", "file.pdf", ".pdf", True),
        ("ends_with", ["a"], "a", False),
        ("matches_regex", "INV-2024", r"^INV-\d{4}$", True),
        ("matches_regex", "INV-24", r"^INV-\d{4}$", False),
        ("matches_regex", "a", "(", False),
        ("gt", "abc", "-1", False),
        ("gt", "10", 9, True),
        ("gt", True, 0, False),
        ("between", 5, [1, 10], True),
        ("between", "5", ["1", "5"], True),
        ("between", "2024-05-01", ["2024-01-01", "2024-12-31"], True),
        ("between", 11, [1, 10], False),
        ("between", 5, 10, False),
        ("after", "2024-01-02", "2024-01-01T12:00:00Z", True),
        ("after", 1_700_000_000, "2023-01-01", True),
        ("after", 1_700_000_000_000, "2023-01-01", True),
        ("after", "soon", "2024-01-01", False),
        ("is_true", "Yes", None, True),
        ("is_true", 1, None, True),
        ("is_true", "maybe", None, False),
        ("is_false", "off", None, True),
        ("is_false", None, None, False),
        ("length_gt", "abc", 2, True),
        ("length_eq", [1, 2], "2", True),
        ("length_lt", 12345, 9, False),
        ("contains_all", ["a", "b", 3], ["b", "3"], True),
        ("contains_any", "a red car", ["blue", "red"], True),
        ("has_key", {"a": None}, "a", True),
        ("is_text", "a", None, True),
        ("is_number", True, None, False),
        ("is_boolean", True, None, True),
        ("is_list", [], None, True),
        ("is_object", [], None, False),
    ],
)
def test_operators_by_example(operator: str, actual: Any, expected: Any, is_met: bool) -> None:
    assert holds(Operator(operator), actual, expected) is is_met


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", {"a": {"b": [{"c": 1}]}, "0": "zero"}),
        ("a.b.0.c", 1),
        ("0", "zero"),
        ("a.b.1", MISSING),
        ("a.b.-1", MISSING),
        ("a.b.x", MISSING),
        ("a.b.0.c.d", MISSING),
        ("a..b", MISSING),
        ("a.b." + "9" * 5000, MISSING),
        ("keys", MISSING),
    ],
)
def test_paths_lead_to_members_and_items_and_never_to_attributes(path: str, found: object) -> None:
    root = {"a": {"b": [{"c": 1}]}, "0": "zero"}

    assert find(root, path) == found


def test_deep_nesting_is_compared_without_running_out_of_stack() -> None:
    deep: Any = 1
    for _ in range(20_000):
        deep = [deep]

    assert holds(Operator.EQUALS, deep, deep)


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"field": "a", "operator": "matches_regex", "value": "("}, "config.rules.0.value"),
        ({"field": "a", "operator": "matches_regex", "value": 5}, "config.rules.0.value"),
        ({"field": "a", "operator": "between", "value": 5}, "config.rules.0.value"),
        ({"field": "a", "operator": "length_gt", "value": "long"}, "config.rules.0.value"),
        ({"field": "a", "operator": "contains_all", "value": "a"}, "config.rules.0.value"),
        ({"field": "a", "operator": "resembles"}, "config.rules.0.operator"),
        ({"field": "{{ a }}", "operator": "exists"}, "config.rules.0.field"),
    ],
)
def test_a_rule_that_can_never_hold_is_refused_where_it_is_written(rule: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        registry.get("assertion").check({"rules": [rule]})

    assert list(refusal.value.errors) == [path]


def test_a_value_that_is_still_a_template_is_judged_later() -> None:
    rule = {"field": "a", "operator": "between", "value": ["{{ low }}", 5]}

    assert registry.get("assertion").check({"rules": [rule, {**rule, "value": "{{ range }}"}]})


def test_rules_name_what_they_read() -> None:
    assert roots([{"field": "hook.body.vip"}, {"field": "trigger.text"}, {"field": ""}, {"field": "hook"}, {}]) == (
        "hook",
        "trigger",
    )
