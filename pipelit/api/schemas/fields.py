"""Fields for JSON that take exactly the JSON type they declare, and refuse what a database could not keep.

`true` is not an integer, `"5"` is neither, and a number beyond an SQL column is the caller's mistake, not a crash.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, validate
from marshmallow import fields as loose

LARGEST = 2**31 - 1
"""What a 32-bit column holds; ids are such columns."""

Dict = loose.Dict
Enum = loose.Enum
Field = loose.Field
List = loose.List
Method = loose.Method
Nested = loose.Nested
Raw = loose.Raw
String = loose.String


class Pattern(validate.Validator):
    """The whole text has this form. `^` and `$` belong to the pattern: the documentation shows it as it is."""

    def __init__(self, pattern: str, error: str) -> None:
        self.regex = re.compile(pattern)
        self.message = error

    def __call__(self, value: str) -> str:
        # With `search` or `match`, `$` would let a line break pass at the end.
        if self.regex.fullmatch(value) is None:
            raise ValidationError(self.message)
        return value


NOT_BLANK = Pattern(r"^(\s*\S[\s\S]*)?$", error="Must not be only white space.")
"""Nothing at all passes: whether a text may be empty is for its length to say."""


def a_name(most: int) -> list[validate.Validator]:
    """What holds for names that people give: neither empty nor invisible, and not longer than that."""
    return [validate.Length(1, most), NOT_BLANK]


class Integer(loose.Integer):
    """A whole number between `least` and `most`."""

    def __init__(self, *, least: int = -LARGEST, most: int = LARGEST, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(least, most), **kwargs)

    def _validated(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Id(Integer):
    """The number of a row."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(least=1, **kwargs)


class Float(loose.Float):
    """A number, and neither text nor a truth value."""

    def _validated(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Boolean(loose.Boolean):
    """`true` or `false`, and nothing that merely looks like it."""

    def _deserialize(self, value: object, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class QueryBoolean(loose.Boolean):
    """`true` or `false` as the text of a query parameter."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(truthy={"true", "1"}, falsy={"false", "0"}, **kwargs)


class QueryInteger(loose.Integer):
    """A whole number as the text of a query parameter."""

    def __init__(self, *, least: int = 0, most: int = LARGEST, **kwargs: Any) -> None:
        super().__init__(validate=validate.Range(least, most), **kwargs)


class UtcTime(loose.AwareDateTime):
    """A time with its zone; sent as UTC with `Z`."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: object, **kwargs: Any) -> str | None:
        if value is None:
            return None
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def _deserialize(self, value: object, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        try:
            time: datetime = super()._deserialize(value, attr, data, **kwargs)
            return time.astimezone(UTC)
        except OverflowError:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from None
