"""Conditions on values, as switch, filter and assertion have them: a path, an operator, and what to compare with.

A condition never fails because of what it finds. On a path that leads nowhere it does not hold, whatever the operator,
except for those that ask just that (`does_not_exist`, `is_empty`). Where something is found, a `not_` operator holds
exactly when the operator without it does not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from marshmallow import fields, validate

from pipelit.nodes.pattern_syntax import PatternError
from pipelit.nodes.patterns import compiled
from pipelit.nodes.ports import Json
from pipelit.nodes.settings import config, is_template, setting
from pipelit.nodes.values import MISSING, as_number, as_text, as_truth, equal, find, order, order_numbers, order_times


class Operator(StrEnum):
    """What a condition asks."""

    EXISTS = "exists"
    DOES_NOT_EXIST = "does_not_exist"
    IS_EMPTY = "is_empty"
    IS_NOT_EMPTY = "is_not_empty"
    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    IN = "in"
    NOT_IN = "not_in"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    STARTS_WITH = "starts_with"
    NOT_STARTS_WITH = "not_starts_with"
    ENDS_WITH = "ends_with"
    NOT_ENDS_WITH = "not_ends_with"
    MATCHES_REGEX = "matches_regex"
    NOT_MATCHES_REGEX = "not_matches_regex"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    BETWEEN = "between"
    AFTER = "after"
    BEFORE = "before"
    AFTER_OR_EQUAL = "after_or_equal"
    BEFORE_OR_EQUAL = "before_or_equal"
    IS_TRUE = "is_true"
    IS_FALSE = "is_false"
    LENGTH_EQ = "length_eq"
    LENGTH_NEQ = "length_neq"
    LENGTH_GT = "length_gt"
    LENGTH_GTE = "length_gte"
    LENGTH_LT = "length_lt"
    LENGTH_LTE = "length_lte"
    CONTAINS_ALL = "contains_all"
    CONTAINS_ANY = "contains_any"
    HAS_KEY = "has_key"
    IS_TEXT = "is_text"
    IS_NUMBER = "is_number"
    IS_BOOLEAN = "is_boolean"
    IS_LIST = "is_list"
    IS_OBJECT = "is_object"


def holds(operator: Operator, actual: object, expected: object) -> bool:
    """Whether the operator holds between what was found (or `MISSING`) and what it is compared with."""
    match operator:
        case Operator.EXISTS:
            return actual is not MISSING and actual is not None
        case Operator.DOES_NOT_EXIST:
            return actual is MISSING or actual is None
        case Operator.IS_EMPTY:
            return _is_empty(actual)
        case _ if actual is MISSING:
            return False
        case _ if operator in OPPOSITES:
            return not CHECKS[OPPOSITES[operator]](actual, expected)
        case _:
            return CHECKS[operator](actual, expected)


def _is_empty(actual: object) -> bool:
    return actual is MISSING or actual is None or (isinstance(actual, str | list | dict) and not actual)


def _is_in(actual: object, expected: object) -> bool:
    if isinstance(expected, str):
        expected = [part.strip() for part in expected.split(",")]
    return isinstance(expected, list) and any(equal(actual, item) for item in expected)


def _contains(actual: object, expected: object) -> bool:
    if isinstance(actual, list):
        return any(equal(item, expected) for item in actual)
    text = as_text(expected)
    if isinstance(actual, dict):
        return text in actual
    return isinstance(actual, str) and text is not None and text in actual


def _starts(actual: object, expected: object) -> bool:
    text, start = as_text(actual), as_text(expected)
    return text is not None and start is not None and text.startswith(start)


def _ends(actual: object, expected: object) -> bool:
    text, end = as_text(actual), as_text(expected)
    return text is not None and end is not None and text.endswith(end)


def _matches(actual: object, expected: object) -> bool:
    text = as_text(actual)
    if text is None or not isinstance(expected, str):
        return False
    try:
        return compiled(expected).is_in(text)
    except PatternError:
        return False


def _between(actual: object, expected: object) -> bool:
    if not isinstance(expected, list) or len(expected) != 2:
        return False
    return order(expected[0], actual) in (-1, 0) and order(actual, expected[1]) in (-1, 0)


def _all_in(actual: object, expected: object) -> bool:
    return isinstance(expected, list) and all(_contains(actual, item) for item in expected)


def _any_in(actual: object, expected: object) -> bool:
    return isinstance(expected, list) and any(_contains(actual, item) for item in expected)


def _number(*wanted: int) -> Callable[[object, object], bool]:
    return lambda actual, expected: order_numbers(actual, expected) in wanted


def _time(*wanted: int) -> Callable[[object, object], bool]:
    return lambda actual, expected: order_times(actual, expected) in wanted


def _length(*wanted: int) -> Callable[[object, object], bool]:
    def check(actual: object, expected: object) -> bool:
        return isinstance(actual, str | list | dict) and order_numbers(len(actual), expected) in wanted

    return check


CHECKS: Mapping[Operator, Callable[[object, object], bool]] = {
    Operator.IS_EMPTY: lambda actual, _: _is_empty(actual),
    Operator.EQUALS: equal,
    Operator.IN: _is_in,
    Operator.CONTAINS: _contains,
    Operator.STARTS_WITH: _starts,
    Operator.ENDS_WITH: _ends,
    Operator.MATCHES_REGEX: _matches,
    Operator.GT: _number(1),
    Operator.GTE: _number(0, 1),
    Operator.LT: _number(-1),
    Operator.LTE: _number(-1, 0),
    Operator.BETWEEN: _between,
    Operator.AFTER: _time(1),
    Operator.BEFORE: _time(-1),
    Operator.AFTER_OR_EQUAL: _time(0, 1),
    Operator.BEFORE_OR_EQUAL: _time(-1, 0),
    Operator.IS_TRUE: lambda actual, _: as_truth(actual) is True,
    Operator.IS_FALSE: lambda actual, _: as_truth(actual) is False,
    Operator.LENGTH_EQ: _length(0),
    Operator.LENGTH_NEQ: _length(-1, 1),
    Operator.LENGTH_GT: _length(1),
    Operator.LENGTH_GTE: _length(0, 1),
    Operator.LENGTH_LT: _length(-1),
    Operator.LENGTH_LTE: _length(-1, 0),
    Operator.CONTAINS_ALL: _all_in,
    Operator.CONTAINS_ANY: _any_in,
    Operator.HAS_KEY: lambda actual, expected: isinstance(actual, dict) and as_text(expected) in actual,
    Operator.IS_TEXT: lambda actual, _: isinstance(actual, str),
    Operator.IS_NUMBER: lambda actual, _: isinstance(actual, int | float) and not isinstance(actual, bool),
    Operator.IS_BOOLEAN: lambda actual, _: isinstance(actual, bool),
    Operator.IS_LIST: lambda actual, _: isinstance(actual, list),
    Operator.IS_OBJECT: lambda actual, _: isinstance(actual, dict),
}

OPPOSITES: Mapping[Operator, Operator] = {
    Operator.IS_NOT_EMPTY: Operator.IS_EMPTY,
    Operator.NOT_EQUALS: Operator.EQUALS,
    Operator.NOT_IN: Operator.IN,
    Operator.NOT_CONTAINS: Operator.CONTAINS,
    Operator.NOT_STARTS_WITH: Operator.STARTS_WITH,
    Operator.NOT_ENDS_WITH: Operator.ENDS_WITH,
    Operator.NOT_MATCHES_REGEX: Operator.MATCHES_REGEX,
}

REGEX = (Operator.MATCHES_REGEX, Operator.NOT_MATCHES_REGEX)
ALONE = frozenset(
    operator
    for operator in Operator
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) or operator.startswith("is_")
)
"""Operators that compare with nothing."""


@config
class Condition:
    """One condition: what is at `field` is asked `operator` about `value`."""

    field: str = setting(
        fields.String(
            validate=[
                validate.Length(max=300),
                validate.Regexp(
                    r"^[^{}]*$", error="Write the path alone, such as trigger.payload.type, without braces."
                ),
            ]
        ),
        title="Field",
        help="A path such as trigger.payload.type or order.items.0.price.",
        widget="path",
        is_literal=True,
    )
    operator: str = setting(
        fields.String(validate=validate.OneOf([str(operator) for operator in Operator])),
        title="Operator",
        is_literal=True,
    )
    value: Json = setting(
        fields.Raw(allow_none=True),
        title="Value",
        help="What to compare with.",
        default=None,
        visible_when={"operator": [str(operator) for operator in Operator if operator not in ALONE]},
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong with the value, as far as that can be known."""
        operator, value = Operator(values["operator"]), values.get("value")
        if operator in ALONE or _holds_template(value):
            return
        if operator in REGEX:
            yield from _pattern_problems(value)
        elif operator is Operator.BETWEEN and not (isinstance(value, list) and len(value) == 2):
            yield "value", "Give a list of two values: the lowest and the highest."
        elif operator in (Operator.CONTAINS_ALL, Operator.CONTAINS_ANY) and not isinstance(value, list):
            yield "value", "Give a list of values."
        elif operator.startswith("length_") and as_number(value) is None:
            yield "value", "Give a number to compare the length with."


def _holds_template(value: object) -> bool:
    return is_template(value) or (isinstance(value, list) and any(is_template(item) for item in value))


def _pattern_problems(value: object) -> Iterator[tuple[str, str]]:
    if not isinstance(value, str):
        yield "value", "Give a regular expression."
        return
    try:
        compiled(value)
    except PatternError as error:
        yield "value", f"Not a regular expression that can be used here: {error}."


def is_met(condition: Condition, root: object) -> bool:
    """Whether the condition holds of what its path leads to from `root`."""
    return holds(Operator(condition.operator), find(root, condition.field), condition.value)


def roots(rules: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names that the paths of stored rules start from."""
    names = (str(rule.get("field", "")).partition(".")[0] for rule in rules)
    return tuple(dict.fromkeys(name for name in names if name))
