"""Declaring a node's configuration: one frozen dataclass whose fields carry validation and presentation.

```python
@config
class Template(StepConfig):
    template: str = setting(fields.String(), title="Template", widget="template")
```

From it come the schema that checks what is saved, the stricter one that checks what the templates resolved to, the
form, the OpenAPI component and the reference page.
"""

import copy
import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar, dataclass_transform

from marshmallow import RAISE, Schema, ValidationError, fields, missing, post_load

from pipelit.nodes.ports import Json

T = TypeVar("T")
MASK = "••••"


class Secret(str):
    """A string that never shows itself: `repr` and formatting into logs give dots."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"

    def masked(self) -> str:
        """Dots and the last four characters, enough to tell two secrets apart; only dots if that would give it away."""
        return MASK + self[-4:] if len(self) >= 12 else MASK


class SecretString(fields.String):
    """A string setting that is encrypted at rest, masked in answers and left out of plans and exports."""

    def _deserialize(self, value: object, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Secret:
        return Secret(super()._deserialize(value, attr, data, **kwargs))


@dataclasses.dataclass(frozen=True, slots=True)
class Nested:
    """Stands for a field whose values are configurations of their own (`many`: a list of them)."""

    config: type
    many: bool = False


def nested(config_class: type, *, many: bool = False) -> Nested:
    """A setting made of settings. Its schema is named after the node type, so that two `Rule`s do not clash."""
    return Nested(config_class, many)


def setting(
    field: fields.Field[Any] | Nested,
    *,
    title: str,
    help: str = "",
    default: object = dataclasses.MISSING,
    widget: str | None = None,
    is_literal: bool = False,
    visible_when: Mapping[str, Json] | None = None,
) -> Any:
    """A field of a node's configuration; without `default` it is required.

    `is_literal`: expressions are not allowed here, because the graph depends on the value (a mode, a route).
    `visible_when`: the form shows the field only while another has this value.
    """
    metadata = {"setting": Presentation(field, title, help, widget, is_literal, visible_when)}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class Presentation:
    """What `setting` was told."""

    field: fields.Field[Any] | Nested
    title: str
    help: str
    widget: str | None
    is_literal: bool
    visible_when: Mapping[str, Json] | None


@dataclass_transform(field_specifiers=(setting,), frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Make a configuration class: a frozen dataclass of settings."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def is_template(value: object) -> bool:
    """Whether a value is text that holds an expression or a statement of the template language."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


class Templated(fields.Field[Any]):
    """Accepts what `inner` accepts, and any template in its place."""

    def __init__(self, inner: fields.Field[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if is_template(value):
            return value
        return self.inner.deserialize(value, attr, data, **kwargs)


@lru_cache(maxsize=None)
def schema_class(config_class: type, name: str, *, is_stored: bool) -> type[Schema]:
    """The marshmallow schema of a configuration class.

    `is_stored`: for what an author saves, where a template may stand for a value; otherwise for what the templates
    resolved to, which loads into an instance of `config_class`.
    """
    members: dict[str, object] = {}
    for declared in dataclasses.fields(config_class):
        members[declared.name] = _schema_field(declared, name, is_stored)
    if not is_stored:
        members["make"] = post_load(lambda _schema, loaded, **_kwargs: config_class(**loaded))
    meta = type("Meta", (), {"unknown": RAISE})
    suffix = "" if is_stored else "Resolved"
    return type(f"{name}{suffix}", (Schema,), {"Meta": meta, **members})


def _schema_field(declared: "dataclasses.Field[Any]", owner: str, is_stored: bool) -> fields.Field[Any]:
    shown: Presentation = declared.metadata["setting"]
    is_required = declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING
    common: dict[str, Any] = {"required": is_required, "metadata": _metadata(shown)}
    if not is_required:
        common["allow_none"] = declared.default is None or getattr(shown.field, "allow_none", False)
        if is_stored:
            common["metadata"]["default"] = _plain(_default(declared))
    if isinstance(shown.field, Nested):
        inner = schema_class(shown.field.config, owner + shown.field.config.__name__, is_stored=is_stored)
        return fields.Nested(inner, many=shown.field.many, **common)
    if is_stored and not shown.is_literal and not isinstance(shown.field, SecretString):
        return Templated(shown.field, **common)
    return _copy_with(shown.field, common)


def _copy_with(field: fields.Field[Any], common: Mapping[str, Any]) -> fields.Field[Any]:
    """A copy of a declared field with the options that follow from the declaration around it."""
    copied = copy.deepcopy(field)
    copied.required = common["required"]
    copied.allow_none = common.get("allow_none", field.allow_none)
    copied.metadata = common["metadata"]
    copied.load_default = missing
    return copied


def _default(declared: "dataclasses.Field[Any]") -> object:
    factory = declared.default_factory
    return declared.default if factory is dataclasses.MISSING else factory()


def _plain(value: object) -> object:
    """A default as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _metadata(shown: Presentation) -> dict[str, Any]:
    described: dict[str, Any] = {"title": shown.title}
    if shown.help:
        described["description"] = shown.help
    if shown.widget:
        described["x-widget"] = shown.widget
    if isinstance(shown.field, SecretString):
        described["x-secret"] = True
    if shown.visible_when:
        described["x-visible-when"] = dict(shown.visible_when)
    if not shown.is_literal and not isinstance(shown.field, Nested | SecretString):
        described["x-expression"] = True
    return described


def secret_names(config_class: type) -> tuple[str, ...]:
    """The settings of a configuration that are secret."""
    return tuple(f.name for f in dataclasses.fields(config_class) if isinstance(f.metadata["setting"].field, SecretString))


def messages_by_path(error: ValidationError, prefix: str = "") -> dict[str, list[str]]:
    """A validation error's messages by dotted path (`rules.0.operator`), beneath `prefix`."""
    found: dict[str, list[str]] = {}
    _collect(error.normalized_messages(), prefix, found)
    return found


def _collect(messages: Any, path: str, found: dict[str, list[str]]) -> None:
    if isinstance(messages, dict):
        for key, value in messages.items():
            at = path if key == "_schema" else f"{path}.{key}" if path else str(key)
            _collect(value, at, found)
    else:
        found.setdefault(path, []).extend(messages if isinstance(messages, list) else [str(messages)])
