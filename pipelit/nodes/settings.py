"""Declaring a node's configuration: one frozen dataclass whose fields carry validation and presentation.

```python
@config
class Template(StepConfig):
    template: str = setting(fields.String(), title="Template", widget="template")
```

From it come the schema that checks what is saved, the more lenient one that loads what the templates resolved to, the
form, the OpenAPI component and the reference page.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, dataclass_transform

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validates_schema

from pipelit.nodes.fields import MASK, Expression, Secret, SecretString, is_template, resolved_field, stored_field

T = TypeVar("T")

Problems = Iterable[tuple[str, str]]
"""Names of settings, each with what is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Nested:
    """Stands for a field whose values are configurations of their own (`many`: a list of them)."""

    config: type
    many: bool
    validate: Callable[[Any], Any] | None
    name: str | None


def nested(
    config_class: type, *, many: bool = False, validate: Callable[[Any], Any] | None = None, name: str | None = None
) -> Nested:
    """A setting made of settings. Its schema is named after the node type, so that two `Rule`s do not clash.

    `name` is for a configuration that many node types share: its schema is then one for all of them. A secret cannot
    be inside, because secrets are kept apart from the rest by the names of top-level settings.
    """
    if secret_names(config_class):
        raise TypeError(f"{config_class.__name__} holds a secret; only the settings of a node itself can")
    return Nested(config_class, many, validate, name)


def setting(
    field: fields.Field[Any] | Nested,
    *,
    title: str,
    help: str = "",
    default: object = dataclasses.MISSING,
    widget: str | None = None,
    is_literal: bool = False,
    visible_when: Mapping[str, object] | None = None,
    is_advanced: bool = False,
) -> Any:
    """A field of a node's configuration; without `default` it is required.

    `is_literal`: expressions are not allowed here, because the graph depends on the value (a mode, a route).
    `visible_when`: the form shows the field only while others have these values (a list: one of them).
    `is_advanced`: the form shows it after the others, when asked.
    """
    metadata = {"setting": Presentation(field, title, help, widget, is_literal, visible_when, is_advanced)}
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
    visible_when: Mapping[str, object] | None
    is_advanced: bool

    @property
    def is_secret(self) -> bool:
        return isinstance(self.field, SecretString)

    @property
    def takes_expressions(self) -> bool:
        return not (self.is_literal or self.is_secret or isinstance(self.field, Nested))


@dataclass_transform(field_specifiers=(setting,), frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Make a configuration class: a frozen dataclass of settings.

    What one field alone cannot tell is said by a static method `problems(values)`, which yields `(field, message)`
    pairs. It sees values that fit their fields, as stored (with templates) and again once they are resolved.
    """
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def declared_settings(config_class: type) -> Mapping[str, Presentation]:
    """The settings of a configuration by name, in the order of their declaration, advanced ones last."""
    shown = {declared.name: declared.metadata["setting"] for declared in dataclasses.fields(config_class)}
    return dict(sorted(shown.items(), key=lambda named: named[1].is_advanced))


def default_of(config_class: type, name: str) -> object:
    """The default of a setting as JSON, or `dataclasses.MISSING` when it is required."""
    declared = next(field for field in dataclasses.fields(config_class) if field.name == name)
    if declared.default is not dataclasses.MISSING:
        return _plain(declared.default)
    if declared.default_factory is not dataclasses.MISSING:
        return _plain(declared.default_factory())
    return dataclasses.MISSING


@cache
def schema_class(config_class: type, name: str, *, is_stored: bool) -> type[Schema]:
    """The marshmallow schema of a configuration class.

    `is_stored`: for what an author saves: exact JSON types, and a template may stand for a value. Otherwise for what
    the templates resolved to: it takes "5" for a number, and loads into an instance of `config_class`.
    """
    members: dict[str, object] = {
        field_name: _schema_field(config_class, field_name, name, is_stored)
        for field_name in declared_settings(config_class)
    }
    if not is_stored:
        members["_make_config"] = post_load(lambda _schema, loaded, **_kwargs: config_class(**loaded))
    if hasattr(config_class, "problems"):
        members["_check_problems"] = validates_schema(skip_on_field_errors=True)(_checker(config_class.problems))
    meta = type("Meta", (), {"unknown": RAISE})
    suffix = "" if is_stored else "Resolved"
    return type(f"{name}{suffix}", (Schema,), {"Meta": meta, **members})


def _checker(problems: Callable[[Mapping[str, Any]], Problems]) -> Callable[..., None]:
    def check(_schema: Schema, loaded: Mapping[str, Any], **_kwargs: Any) -> None:
        found: dict[str, list[str]] = {}
        for field_name, message in problems(loaded):
            found.setdefault(field_name, []).append(message)
        if found:
            raise ValidationError(dict(found))

    return check


def _schema_field(config_class: type, name: str, owner: str, is_stored: bool) -> fields.Field[Any]:
    shown = declared_settings(config_class)[name]
    default = default_of(config_class, name)
    common: dict[str, Any] = {"required": default is dataclasses.MISSING, "metadata": _metadata(config_class, name)}
    if default is None:
        common["allow_none"] = True
    if is_stored and default is not dataclasses.MISSING:
        common["metadata"]["default"] = default
    if isinstance(shown.field, Nested):
        inner_name = shown.field.name or owner.removesuffix("Config") + shown.field.config.__name__
        inner = schema_class(shown.field.config, inner_name, is_stored=is_stored)
        return fields.Nested(inner, many=shown.field.many, validate=shown.field.validate, **common)
    if is_stored:
        return stored_field(shown.field, is_templated=shown.takes_expressions, **common)
    return resolved_field(shown.field, **common)


def _plain(value: object) -> object:
    """A default as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _metadata(config_class: type, name: str) -> dict[str, Any]:
    """What the form needs to know of a field; `x-order` is there because JSON objects may be sorted on their way."""
    declared = declared_settings(config_class)
    shown = declared[name]
    described: dict[str, Any] = {"title": shown.title, "x-order": list(declared).index(name)}
    if shown.help:
        described["description"] = shown.help
    if shown.widget:
        described["x-widget"] = shown.widget
    if shown.is_secret:
        described["x-secret"] = True
    if shown.is_advanced:
        described["x-advanced"] = True
    if shown.visible_when:
        described["x-visible-when"] = dict(shown.visible_when)
    if shown.takes_expressions:
        described["x-expression"] = True
    return described


def secret_names(config_class: type) -> tuple[str, ...]:
    """The settings of a configuration that are secret."""
    return tuple(name for name, shown in declared_settings(config_class).items() if shown.is_secret)


def messages_by_path(error: ValidationError, prefix: str = "") -> dict[str, list[str]]:
    """A validation error's messages by dotted path (`rules.0.operator`), beneath `prefix`."""
    found: dict[str, list[str]] = {}
    _collect(error.messages_dict, prefix, found)
    return found


def _collect(messages: Any, path: str, found: dict[str, list[str]]) -> None:
    if isinstance(messages, dict):
        for key, value in messages.items():
            at = path if key == "_schema" else f"{path}.{key}" if path else str(key)
            _collect(value, at, found)
    else:
        found.setdefault(path, []).extend(messages if isinstance(messages, list) else [str(messages)])


__all__ = [
    "MASK",
    "Expression",
    "Nested",
    "Presentation",
    "Problems",
    "Secret",
    "SecretString",
    "config",
    "declared_settings",
    "default_of",
    "is_template",
    "messages_by_path",
    "nested",
    "schema_class",
    "secret_names",
    "setting",
]
