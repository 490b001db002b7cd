"""What expressions see: JSON, how it is looked into, what is said of what is missing, and how it becomes text."""

import json
import math
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Final, NoReturn

from jinja2 import StrictUndefined, UndefinedError
from jinja2.runtime import LoopContext
from jinja2.utils import Namespace, missing

from pipelit.engine.sandbox.limits import ITEM, MAX_ITEMS, MAX_VALUE, LimitReached, check_size
from pipelit.nodes.ports import Json

MAX_DEPTH = 200
"""Levels of lists and objects inside one another that a computed value may have."""
SHOWN_NAMES = 8
SEARCHED_NAMES = 1000

ABSENT: Final = object()

LOOP_ATTRIBUTES = frozenset(
    {"depth", "depth0", "first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex", "revindex0"}
)


def lookup(holder: object, key: object) -> object:
    """What a list, an object, a text or the variable of a loop holds under `key`, else `ABSENT`. Never a method."""
    if isinstance(holder, dict):
        return holder.get(key, ABSENT) if isinstance(key, str) else ABSENT
    if isinstance(holder, list | tuple | str):
        if isinstance(key, int) and not isinstance(key, bool):
            return holder[key] if -len(holder) <= key < len(holder) else ABSENT
        names = getattr(type(holder), "_fields", ())
        return holder[names.index(key)] if key in names else ABSENT
    if isinstance(holder, LoopContext) and key in LOOP_ATTRIBUTES:
        return getattr(holder, str(key))
    if isinstance(holder, Namespace) and isinstance(key, str) and not key.startswith("_"):
        return getattr(holder, key, ABSENT)
    return ABSENT


class Missing(StrictUndefined):
    """Stands for what is not there. It can be asked about (`is defined`) and replaced (`default`); all else fails."""

    __slots__ = ("path",)

    def __init__(
        self,
        hint: str | None = None,
        obj: object = missing,
        name: str | None = None,
        exc: type[UndefinedError] = UndefinedError,
        *,
        path: str = "",
    ) -> None:
        super().__init__(hint, obj, name, exc)
        self.path = path

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        if self._undefined_obj is missing:
            return not_there(str(self._undefined_name))
        return explain(self.path, self._undefined_obj, self._undefined_name)

    def fail(self) -> NoReturn:
        """Raise the `UndefinedError` that any use of it raises."""
        raise UndefinedError(self._undefined_message)


def not_there(name: str, known: Iterable[str] = ()) -> str:
    """That a name is not there, and which one may have been meant."""
    names = list(islice(known, SEARCHED_NAMES))
    said = f"'{shortened(name)}' is not there"
    if close := get_close_matches(name[:100], names, 1):
        return f"{said}; did you mean '{shortened(close[0])}'?"
    if not names:
        return said
    shown = ", ".join(f"'{shortened(key)}'" for key in names[:SHOWN_NAMES])
    return f"{said}; there is {shown}{' and more' if len(names) > SHOWN_NAMES else ''}"


def explain(path: str, holder: object, key: object) -> str:
    """Why `path`, which ends in `key`, leads nowhere."""
    match holder:
        case dict():
            reason = not_there(str(key), holder)
        case None:
            reason = f"there is no '{shortened(str(key))}' in null"
        case list() | tuple() if isinstance(key, int):
            reason = f"there is no item {key} in a list of {len(holder)}"
        case _:
            reason = f"there is no '{shortened(str(key))}' in {kind(holder)}"
    return f"{path}: {reason}" if path else reason


def kind(value: object) -> str:
    """What a value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"something that is not data ({type(value).__name__})"


def shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def measure(value: object) -> int:
    """The size of a value as it would be written out: shared parts count each time.

    Raises `LimitReached` when it is too large, and `TypeError` if anything inside is not data.
    """
    size = 0
    waiting: list[object] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            size += len(part)
        elif isinstance(part, list | tuple):
            size += ITEM * len(part)
            waiting.extend(part)
        elif isinstance(part, dict):
            size += ITEM * len(part) + sum(map(_key_length, part))
            waiting.extend(part.values())
        else:
            check_is_data(part)
        if size > MAX_VALUE:
            raise LimitReached(f"a value is too large, the limit is {MAX_VALUE}")
    return size


def _key_length(key: object) -> int:
    if not isinstance(key, str):
        raise TypeError(f"the keys of an object are texts, not {kind(key)}")
    return len(key)


def check_is_data(part: object) -> None:
    """Raise unless it is a number, a boolean or null."""
    if isinstance(part, Missing):
        part.fail()
    if not (part is None or isinstance(part, int | float)):
        raise TypeError(f"{kind(part)} cannot be used as a value")


def to_text(value: object) -> str:
    """A value inside text: objects and lists as compact JSON, null as nothing, booleans as `true` and `false`."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict):
        return to_json_text(value)
    check_is_data(value)
    return str(value)


def to_json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON, compact unless an indentation is given."""
    check_size(measure(value) * (1 + (indent or 0)))
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators, indent=indent)


def to_data(value: object, depth: int = 0) -> Json:
    """What a template computed, as JSON. Raises `TypeError` or `ValueError` when it is something else."""
    match value:
        case str():
            return str(value)
        case bool() | int() | None:
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} is not a number that JSON has")
            return value
    if depth > MAX_DEPTH:
        raise LimitReached(f"a value has more than {MAX_DEPTH} levels")
    match value:
        case list() | tuple():
            return [to_data(item, depth + 1) for item in value]
        case dict():
            return {str(key): to_data(item, depth + 1) for key, item in value.items()}
    check_is_data(value)
    raise AssertionError("unreachable")


def settled(value: object) -> object:
    """What a filter returned, as data: marked-up text as text, and what would come one by one as a list."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Iterator):
        items = list(islice(value, MAX_ITEMS * 10 + 1))
        check_size(len(items), MAX_ITEMS * 10)
        return items
    return value
