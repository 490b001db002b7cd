"""Reading JSON values by their sense: paths into them, and when text counts as a number, a time or a truth value."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
INDEX = re.compile(r"\d{1,9}", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MISSING: Final = object()
"""What a path that leads nowhere finds: something that no JSON value is."""


def find(value: object, path: str) -> object:
    """What `path` leads to (`a.b.0.c`: members of objects by name, of lists by index), or `MISSING`.

    The empty path leads to the value itself.
    """
    if not path:
        return value
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def as_number(value: object) -> int | float | None:
    """The number that a value is, or is written as ("5", " 1.5e3 "); None for all else, truth values included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, str) or len(value) > 400 or not NUMBER.fullmatch(text := value.strip()):
        return None
    if text.lstrip("+-").isdecimal():
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else None


def as_text(value: object) -> str | None:
    """Text as it is, numbers and truth values as JSON writes them; None for lists, objects and null."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def as_time(value: object) -> datetime | None:
    """The time that a value means, in UTC: ISO 8601 text (UTC without a zone), seconds or milliseconds since 1970."""
    try:
        if isinstance(value, str):
            return _utc(datetime.fromisoformat(value.strip()))
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Seconds reach 100 thousand million in the year 5138; whoever sends more means milliseconds.
            return EPOCH + timedelta(seconds=value if abs(value) < 1e11 else value / 1000)
    except (ValueError, OverflowError):
        return None
    return None


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def as_truth(value: object) -> bool | None:
    """True for true, 1 and the texts true, yes, on, 1; False for their opposites; None for everything else."""
    text = (as_text(value) or "").strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    return False if text in ("false", "no", "off", "0") else None


def equal(left: object, right: object) -> bool:
    """Whether two values are equal by their sense.

    A number equals the text that writes it; true and false equal the texts "true" and "false" in any case; texts are
    compared letter by letter, lists and objects member by member in the same way; null equals only null. Truth values
    are not numbers: true is not 1.
    """
    pending = [(left, right)]
    # A list of what is still to compare instead of recursion: nesting has no limit here, Python's stack has.
    while pending:
        one, other = pending.pop()
        if isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pending.extend(zip(one, other, strict=True))
        elif isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pending.extend((one[name], other[name]) for name in one)
        elif not _equal_scalars(one, other):
            return False
    return True


def _equal_scalars(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return isinstance(one, bool | str) and isinstance(other, bool | str) and _lower(one) == _lower(other)
    if isinstance(one, int | float) or isinstance(other, int | float):
        left, right = as_number(one), as_number(other)
        return left is not None and left == right
    return type(one) is type(other) and one == other


def _lower(value: bool | str) -> str:
    return str(value).strip().lower()


def order_numbers(left: object, right: object) -> Literal[-1, 0, 1] | None:
    """How two values compare as numbers; None when one of them is none."""
    one, other = as_number(left), as_number(right)
    if one is None or other is None:
        return None
    return -1 if one < other else 1 if one > other else 0


def order_times(left: object, right: object) -> Literal[-1, 0, 1] | None:
    """How two values compare as times; None when one of them is none."""
    one, other = as_time(left), as_time(right)
    if one is None or other is None:
        return None
    return -1 if one < other else 1 if one > other else 0


def order(left: object, right: object) -> Literal[-1, 0, 1] | None:
    """How two values compare: as numbers if both are, as times if both are written as times, otherwise not."""
    by_number = order_numbers(left, right)
    if by_number is None and isinstance(left, str) and isinstance(right, str):
        return order_times(left, right)
    return by_number


def identity(value: object) -> str:
    """A text that two values share exactly when they are the same JSON, 1 and 1.0 being the same number."""
    return json.dumps(_canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _canonical(value: object) -> object:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_canonical(item) for item in value]
        case dict():
            return {name: _canonical(member) for name, member in value.items()}
        case _:
            return value


def described(value: object) -> str:
    """What a value is, for a sentence: "an object with the keys a, b", "a list of 3", "the text 'abc'"."""
    match value:
        case None:
            return "null"
        case bool() | int() | float():
            return json.dumps(value)
        case str():
            return f"the text '{_shortened(value)}'"
        case Mapping():
            return f"an object with {_keys(value)}"
        case Sequence():
            return f"a list of {len(value)}"
        case _:
            return "nothing"


def _keys(value: Mapping[str, object]) -> str:
    if not value:
        return "no keys"
    shown = ", ".join(_shortened(name) for name in list(value)[:8])
    return f"the keys {shown}{', …' if len(value) > 8 else ''}"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
