"""Jinja2's filters and tests, those that can make much out of little replaced by ones that know a limit."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import unescape
from typing import Any

from jinja2 import Environment, pass_context, pass_environment, pass_eval_context
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import (
    do_batch,
    do_center,
    do_indent,
    do_pprint,
    do_round,
    do_slice,
    do_urlencode,
    do_urlize,
    do_wordwrap,
    do_xmlattr,
    make_attrgetter,
    sync_do_map,
)
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS

from pipelit.engine.sandbox.limits import MAX_ITEMS, MAX_VALUE, LimitReached, check_size
from pipelit.engine.sandbox.values import Missing, check_is_data, measure, settled, to_json_text, to_text

MAX_LABORIOUS = 64 * 1024
"""Characters for filters whose work grows faster than the text."""
MAX_COUNT = 10_000
"""Numbers that say how many, how wide or how deep."""

PERCENT = re.compile(r"(?:[^%]|%%|%(?:\(\w*\))?[-#0 +]{0,5}\d{0,3}(?:\.\d{0,3})?[a-zA-Z])*+", re.DOTALL)

TEXT_FILTERS = frozenset(
    {
        "capitalize", "center", "e", "escape", "forceescape", "format", "indent", "lower", "replace", "safe", "string",
        "striptags", "title", "trim", "truncate", "upper", "urlize", "wordcount", "wordwrap",
    }
)  # fmt: skip
"""Filters of texts. Other values become text first, as they do in the midst of a template."""

ANY_LENGTH = frozenset({"count", "d", "default", "length", "urlencode", "tojson"})
"""Filters that may be given a long text although they are not made for texts: they do not take it apart."""


def check_count(number: object) -> None:
    """Refuse a number of times, columns or items that only serves to fill memory."""
    if not isinstance(number, int) or abs(number) > MAX_COUNT:
        raise LimitReached(f"a number up to {MAX_COUNT} is needed here")


@pass_environment
def attr(environment: Environment, value: object, name: str) -> object:
    """The same as `value.name`."""
    return environment.getitem(value, name)


def batch(value: Iterable[object], linecount: int, fill_with: object = None) -> object:
    check_count(linecount)
    rows = list(do_batch(_sized(value), linecount, fill_with))
    measure(rows)
    return rows


def slice_(value: Iterable[object], slices: int, fill_with: object = None) -> object:
    check_count(slices)
    rows = list(do_slice(_sized(value), slices, fill_with))
    measure(rows)
    return rows


def center(value: str, width: int = 80) -> str:
    check_count(width)
    return do_center(value, width)


def format_(value: str, *args: object, **kwargs: object) -> str:
    """`'%s is %.1f'|format(name, number)`, with widths below a thousand."""
    if args and kwargs:
        raise TypeError("format takes either positional or named values")
    return percent(value, kwargs or args)


def percent(pattern: str, values: object) -> str:
    """Python's `%` on text, widths below a thousand. Values that are not numbers are made text first."""
    if not PERCENT.fullmatch(pattern):
        raise ValueError("the format must consist of text and of places such as %s, %5.2f, %(name)s and %%")
    if isinstance(values, Mapping):
        named = {key: _formattable(item) for key, item in values.items()}
        _check_places(pattern, named.values())
        return pattern % named
    places = tuple(_formattable(item) for item in (values if isinstance(values, tuple) else (values,)))
    _check_places(pattern, places)
    return pattern % places


def _check_places(pattern: str, shown: Iterable[object]) -> None:
    longest = max((len(str(item)) for item in shown), default=0)
    check_size(len(pattern) + pattern.count("%") * (longest + 1000))


def _formattable(value: object) -> object:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else to_text(value)


def indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    if isinstance(width, int):
        check_count(width)
    check_size(len(s) + (s.count("\n") + 1) * (width if isinstance(width, int) else len(width)))
    return do_indent(s, width, first, blank)


@pass_environment
def join(environment: Environment, value: Iterable[object], d: str = "", attribute: str | int | None = None) -> str:
    """The texts of all items, with `d` between them."""
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    parts: list[str] = []
    separator, size = to_text(d), 0
    for item in value:
        parts.append(to_text(item))
        size += len(parts[-1]) + len(separator)
        check_size(size)
    return separator.join(parts)


@pass_context
def map_(context: Context, value: Iterable[object], *args: Any, **kwargs: Any) -> object:
    """Every item looked into or filtered; what a default adds counts as often as it is added."""
    made = settled(sync_do_map(context, value, *args, **kwargs))
    if isinstance(made, list):
        # Items that are missing may still be replaced by `default`.
        measure([item for item in made if not isinstance(item, Missing)])
    return made


def pprint(value: object) -> str:
    check_size(measure(value), MAX_LABORIOUS)
    return do_pprint(value)


def replace(s: str, old: object, new: object, count: int | None = None) -> str:
    old_text, new_text = to_text(old), to_text(new)
    check_size(len(s) + (s.count(old_text)) * len(new_text))
    return s.replace(old_text, new_text, -1 if count is None else count)


def round_(value: float, precision: Any = 0, method: Any = "common") -> float:
    if not isinstance(precision, int) or abs(precision) > 100:
        raise LimitReached("the precision must be a whole number up to 100")
    return do_round(value, precision, method)


def striptags(value: str) -> str:
    """The text without its tags and comments, with single spaces. Unlike the original, it reads the text only once."""
    kept: list[str] = []
    position = 0
    while (start := value.find("<", position)) >= 0:
        mark = "-->" if value.startswith("<!--", start) else ">"
        end = value.find(mark, start)
        if end < 0:
            break
        kept.append(value[position:start])
        position = end + len(mark)
    kept.append(value[position:])
    return unescape(" ".join("".join(kept).split()))


@pass_environment
def sum_(environment: Environment, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    """The sum of numbers."""
    if not isinstance(start, int | float):
        raise TypeError("sum starts with a number")
    if attribute is not None:
        iterable = map(make_attrgetter(environment, attribute), iterable)
    total = start
    for item in iterable:
        check_is_data(item)
        total += item
    return total


def tojson(value: object, indent: int | None = None) -> str:
    """JSON, compact or indented."""
    if indent is not None and not 0 <= indent <= 16:
        raise LimitReached("the indentation must be from 0 to 16")
    return to_json_text(value, indent)


def urlencode(value: object) -> str:
    return do_urlencode(value if isinstance(value, Mapping | list | tuple) else to_text(value))


@pass_eval_context
def urlize(context: EvalContext, value: str, *args: Any, **kwargs: Any) -> str:
    _check_laborious(value, *args, *kwargs.values())
    return do_urlize(context, value, *args, **kwargs)


@pass_environment
def wordwrap(environment: Environment, s: str, *args: Any, **kwargs: Any) -> str:
    _check_laborious(s, *args, *kwargs.values())
    return do_wordwrap(environment, s, *args, **kwargs)


def _check_laborious(text: str, *words: object) -> None:
    check_size(len(text), MAX_LABORIOUS)
    for word in words:
        check_size(measure(word), 200)


@pass_eval_context
def xmlattr(context: EvalContext, value: Mapping[str, object], autospace: bool = True) -> str:
    check_size(measure(value), MAX_VALUE // 8)
    return do_xmlattr(context, value, autospace)


def _sized(value: Iterable[object]) -> Sequence[object]:
    return value if isinstance(value, Sequence) else list(value)


FILTERS: dict[str, Callable[..., Any]] = {
    **JINJA_FILTERS,
    "attr": attr,
    "batch": batch,
    "center": center,
    "format": format_,
    "indent": indent,
    "join": join,
    "map": map_,
    "pprint": pprint,
    "replace": replace,
    "round": round_,
    "slice": slice_,
    "striptags": striptags,
    "sum": sum_,
    "tojson": tojson,
    "urlencode": urlencode,
    "urlize": urlize,
    "wordwrap": wordwrap,
    "xmlattr": xmlattr,
}
TESTS: dict[str, Any] = {name: test for name, test in JINJA_TESTS.items() if name != "callable"}


def check_value(name: str, value: object) -> None:
    """Refuse a long text for a filter that would take it apart."""
    if isinstance(value, str) and len(value) > MAX_ITEMS and name not in ANY_LENGTH:
        raise LimitReached(f"the text is too long for '{name}', which takes at most {MAX_ITEMS} characters")
