"""Fields of configurations: secrets, expressions, and the two readings of every other field.

What an author stores is read exactly: 5 is a number and "5" is not, so that the published JSON schema is true to the
letter; but a template may stand where its value will be. What a template resolved to is read leniently: "5" will do for
a number and 5 for a text, because it often came out of a text, or goes into one.
"""

import copy
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import fields, missing

MASK = "••••"


class Secret(str):
    """A text that never shows itself: printed, formatted or logged it is dots; `reveal` and `encode` give it away."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"

    def __str__(self) -> str:
        return MASK

    def __format__(self, _spec: str) -> str:
        return MASK

    def reveal(self) -> str:
        """The text itself."""
        return str.__str__(self)

    def masked(self) -> str:
        """Dots and the last four characters, enough to tell two secrets apart; only dots if that would give it away."""
        return MASK + self[-4:] if len(self) >= 12 else MASK


class SecretString(fields.String):
    """A string setting that is encrypted at rest, masked in answers and left out of plans and exports."""

    def _deserialize(self, value: object, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Secret:
        return Secret(super()._deserialize(value, attr, data, **kwargs))


class Expression(fields.String):
    """A text as stored, and of whatever type it resolves to: a list stays a list."""


def is_template(value: object) -> bool:
    """Whether a value is text that holds an expression or a statement of the template language."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


class Wrapped(fields.Field[Any]):
    """Reads a value for another field, `inner`."""

    def __init__(self, inner: fields.Field[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner

    def _bind_to_schema(self, field_name: str, parent: Any) -> None:
        super()._bind_to_schema(field_name, parent)
        self.inner = copy.deepcopy(self.inner)
        self.inner._bind_to_schema(field_name, self)


class StoredField(Wrapped):
    """Accepts exactly the JSON that `inner` describes and, if `is_templated`, any template in its place."""

    def __init__(self, inner: fields.Field[Any], *, is_templated: bool, **kwargs: Any) -> None:
        super().__init__(inner, **kwargs)
        self.is_templated = is_templated

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if self.is_templated and is_template(value):
            return value
        if not _is_exact(self.inner, value):
            raise self.inner.make_error("invalid")
        return self.inner.deserialize(value, attr, data, **kwargs)


class ResolvedField(Wrapped):
    """Accepts what `inner` describes, numbers written as text, and simple values where text is wanted."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(self.inner, fields.String) and isinstance(value, bool | int | float):
            value = json.dumps(value)
        elif isinstance(self.inner, fields.Number) and not _is_numeric(self.inner, value):
            raise self.inner.make_error("invalid")
        return self.inner.deserialize(value, attr, data, **kwargs)


def stored_field(field: fields.Field[Any], *, is_templated: bool, **options: Any) -> fields.Field[Any]:
    """The field by which a stored value is read."""
    inner = _with_members(field, lambda member: stored_field(member, is_templated=is_templated))
    options.setdefault("allow_none", field.allow_none)
    return StoredField(inner, is_templated=is_templated, **options)


def resolved_field(field: fields.Field[Any], **options: Any) -> fields.Field[Any]:
    """The field by which a resolved value is read."""
    if isinstance(field, Expression):
        return fields.Raw(**{**options, "allow_none": True})
    options.setdefault("allow_none", field.allow_none)
    return ResolvedField(_with_members(field, resolved_field), **options)


def _with_members(
    field: fields.Field[Any], read: Callable[[fields.Field[Any]], fields.Field[Any]]
) -> fields.Field[Any]:
    """A copy of a field, whose members (of a list, of an object) are read in the same way."""
    copied = copy.copy(field)
    copied.load_default = missing
    if isinstance(copied, fields.List):
        copied.inner = read(copied.inner)
    elif isinstance(copied, fields.Dict) and copied.value_field is not None:
        copied.value_field = read(copied.value_field)
    return copied


def _is_exact(field: fields.Field[Any], value: Any) -> bool:
    """Whether a value is of the JSON type that the field has in the schema, where marshmallow alone takes more."""
    match field:
        case fields.Boolean():
            return isinstance(value, bool)
        case fields.Integer():
            return _is_number(value) and value == int(value)
        case fields.Number():
            return _is_number(value)
        case _:
            return True


def _is_number(value: Any) -> bool:
    """Whether a value is a JSON number; NaN and infinities are not."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_numeric(field: fields.Field[Any], value: Any) -> bool:
    """Whether a value may be read as a number; an integer is never cut out of a fraction."""
    if isinstance(value, str):
        return "_" not in value
    return _is_number(value) and (not isinstance(field, fields.Integer) or value == int(value))
