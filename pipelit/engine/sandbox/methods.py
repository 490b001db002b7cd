"""What can be called in an expression: a few functions, a few methods of texts and objects, and the operators."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from jinja2.runtime import LoopContext
from jinja2.utils import Namespace

from pipelit.engine.sandbox import filters
from pipelit.engine.sandbox.limits import MAX_BITS, MAX_ITEMS, MAX_TEXT, LimitReached, check_size
from pipelit.engine.sandbox.values import Missing, kind, measure

Function = Callable[..., Any]


def range_(*bounds: int) -> list[int]:
    numbers = range(*bounds)
    if len(numbers) > MAX_ITEMS:
        raise LimitReached(f"a range has at most {MAX_ITEMS} numbers")
    return list(numbers)


def dict_(*parts: Any, **more: object) -> dict[str, object]:
    made: dict[str, object] = dict(*parts, **more)
    measure(made)
    return made


FUNCTIONS: Mapping[str, Function] = {"dict": dict_, "namespace": Namespace, "range": range_}


def _split(separate: Callable[..., list[str]]) -> Function:
    def checked(text: str, *args: Any, **kwargs: Any) -> list[str]:
        check_size(len(text), MAX_TEXT)
        return separate(text, *args, **kwargs)

    return checked


TEXT_METHODS: Mapping[str, Function] = {
    "capitalize": str.capitalize,
    "endswith": str.endswith,
    "lower": str.lower,
    "lstrip": str.lstrip,
    "replace": filters.replace,
    "rstrip": str.rstrip,
    "split": _split(str.split),
    "splitlines": _split(str.splitlines),
    "startswith": str.startswith,
    "strip": str.strip,
    "title": str.title,
    "upper": str.upper,
}
OBJECT_METHODS: Mapping[str, Function] = {
    "get": dict.get,
    "items": lambda known: list(known.items()),
    "keys": list,
    "values": lambda known: list(known.values()),
}
LOOP_METHODS: Mapping[str, Function] = {"changed": LoopContext.changed, "cycle": LoopContext.cycle}

METHODS = frozenset({*TEXT_METHODS, *OBJECT_METHODS, *LOOP_METHODS})
"""Every name that may stand before parentheses behind a dot."""


def method(holder: object, name: str) -> Function:
    """The function behind `holder.name(…)`. Raises `TypeError` when there is none for such a value."""
    match holder:
        case Missing():
            holder.fail()
        case str():
            found = TEXT_METHODS.get(name)
        case dict():
            found = OBJECT_METHODS.get(name)
        case LoopContext():
            found = LOOP_METHODS.get(name)
        case _:
            found = None
    if found is None:
        raise TypeError(f"'{name}()' cannot be called on {kind(holder)}")
    return found


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        check_size(len(left) + len(right))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        check_size(measure(left) + measure(right))
        return [*left, *right]
    return left + right


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            check_size((len(value) if isinstance(value, str) else measure(value)) * max(times, 0))
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * max(right, 0))
    return left**right


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise LimitReached("a number is too large")


def _remainder(left: Any, right: Any) -> Any:
    return filters.percent(left, right) if isinstance(left, str) else left % right


OPERATORS: Mapping[str, Function] = {
    "+": _add,
    "-": operator.sub,
    "*": _multiply,
    "/": operator.truediv,
    "//": operator.floordiv,
    "**": _power,
    "%": _remainder,
}
