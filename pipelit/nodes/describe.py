"""What the API, the editor's forms and the reference pages say of a node type, made from its declaration alone."""

from typing import Any, TypedDict

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema
from marshmallow import fields as kinds

from pipelit.nodes.base import NodeType, StepNode
from pipelit.nodes.fields import Expression, StoredField
from pipelit.nodes.ports import Category, Port

TEMPLATE = {"type": "string", "pattern": r"\{[{%]"}
"""The JSON schema of what stands in for a value: text with an expression or a statement in it."""

COLORS = {
    Category.TRIGGER: "amber",
    Category.AI: "violet",
    Category.LOGIC: "blue",
    Category.TOOL: "emerald",
    Category.MEMORY: "rose",
    Category.FLOW: "slate",
}
"""Names of the palette that the editor gives a shade in its light and its dark theme."""

# JSON Schema's own vocabulary: nested JSON, which has no narrower type than this.
JsonSchema = dict[str, Any]


class PortDescription(TypedDict):
    """A port, as JSON."""

    name: str
    type: str
    description: str
    required: bool


class NodeTypeDescription(TypedDict):
    """What the palette shows of a node type, what may be connected to it, and the form of its settings."""

    display_name: str
    category: str
    description: str
    icon: str
    color: str
    inputs: list[PortDescription]
    outputs: list[PortDescription]
    sub_inputs: list[str]
    routes: list[str]
    executable: bool
    config_schema: JsonSchema


def describe(node_type: NodeType[Any]) -> NodeTypeDescription:
    """The description of a node type. `routes` are those of a new node; the settings may name others."""
    return {
        "display_name": node_type.title,
        "category": node_type.category.value,
        "description": documentation(node_type),
        "icon": node_type.icon,
        "color": COLORS[node_type.category],
        "inputs": [_port(port) for port in node_type.inputs],
        "outputs": [_port(port) for port in node_type.outputs],
        "sub_inputs": [label.value for label in node_type.sub_inputs],
        "routes": list(node_type.routes({})),
        "executable": isinstance(node_type, StepNode),
        "config_schema": config_schema(node_type),
    }


def documentation(node_type: NodeType[Any]) -> str:
    """The docstring of a node type, in Markdown, without the indentation of its source."""
    lines = (node_type.__doc__ or "").strip().splitlines()
    return "\n".join([lines[0], *(line.removeprefix("    ").rstrip() for line in lines[1:])]) if lines else ""


def config_schema(node_type: NodeType[Any]) -> JsonSchema:
    """The JSON Schema (2020-12) of a stored config; schemas inside it are under `$defs`.

    Beside JSON Schema's own keys: `x-order` (place in the form), `x-widget`, `x-secret`, `x-expression` (a template may
    stand here), `x-advanced` (shown when asked for) and `x-visible-when` (only while others have one of these values).
    """
    plugin = MarshmallowPlugin(schema_name_resolver=lambda schema: _class_of(schema).__name__)
    document = APISpec(title="", version="", openapi_version="3.1.0", plugins=[plugin])
    assert plugin.converter is not None, "the document made it"
    add_stored_fields(plugin.converter)
    name = node_type.schema.__name__
    document.components.schema(name, schema=node_type.schema)
    schemas: dict[str, JsonSchema] = _localised(document.to_dict()["components"]["schemas"])
    found = {"title": node_type.title, **schemas.pop(name)}
    return {**found, "$defs": schemas} if schemas else found


def add_stored_fields(converter: Any) -> None:
    """Teach apispec's converter the fields of stored configs. Once for each document that mentions node types."""
    converter.add_attribute_function(stored_field_properties)


def stored_field_properties(self: Any, field: kinds.Field[Any], **_known: object) -> JsonSchema:
    """What is true of a stored field: what its inner one says, or a template, or null."""
    if not isinstance(field, StoredField):
        return {}
    inner: JsonSchema = self.field2property(field.inner)
    alternatives = [inner]
    if field.is_templated and not _takes_any_text(field.inner):
        alternatives.append(TEMPLATE)
    if field.allow_none and inner and not field.inner.allow_none:
        alternatives.append({"type": "null"})
    return inner if len(alternatives) == 1 else {"anyOf": alternatives}


def _takes_any_text(field: kinds.Field[Any]) -> bool:
    """Whether templates are among the values of the field anyway."""
    return (
        isinstance(field, kinds.Raw)
        or (isinstance(field, kinds.String) and not field.validators)
        or (isinstance(field, Expression) and not field.validators)
    )


def _class_of(schema: Schema | type[Schema]) -> type[Schema]:
    return schema if isinstance(schema, type) else type(schema)


def _localised(value: Any) -> Any:
    """References to a document's components as references into the schema itself."""
    match value:
        case {"$ref": str() as reference}:
            return {**value, "$ref": reference.replace("#/components/schemas/", "#/$defs/")}
        case dict():
            return {name: _localised(member) for name, member in value.items()}
        case list():
            return [_localised(item) for item in value]
        case _:
            return value


def _port(port: Port) -> PortDescription:
    return {"name": port.name, "type": port.type.value, "description": port.description, "required": port.required}
