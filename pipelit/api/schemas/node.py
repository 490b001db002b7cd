"""Nodes: one flat schema to load and dump, and one published alternative per node type."""

from collections.abc import Callable, Mapping
from typing import Any

import marshmallow
from marshmallow import ValidationError, post_load, validate

from pipelit.api.schemas import fields
from pipelit.api.schemas.base import AnswerSchema, Schema
from pipelit.api.self_described import JsonSchema, OneOf, Reference, SelfDescribed
from pipelit.models import WorkflowNode
from pipelit.nodes import registry
from pipelit.nodes.base import NodeType, schema_name
from pipelit.services import node_config
from pipelit.services.drafts import NodeDraft
from pipelit.services.names import NODE_ID, RESERVED_NODE_IDS

FARTHEST = 1_000_000


def is_not_reserved(node_id: str) -> None:
    """Raises if the name means something else inside an expression."""
    if node_id in RESERVED_NODE_IDS:
        raise ValidationError(f"'{node_id}' means something else in expressions; choose another name.")


A_NODE_ID: list[Callable[[str], object]] = [
    fields.Pattern(f"^{NODE_ID.pattern}$", error="A letter or _ first, then letters, digits and _; at most 100."),
    is_not_reserved,
]


class NodeFields(Schema):
    """What a node may say beside its name, type and configuration."""

    label = fields.String(allow_none=True, validate=[validate.Length(max=255), fields.NOT_BLANK])
    is_entry_point = fields.Boolean()
    interrupt_before = fields.Boolean(metadata={"description": "Wait for a person before the node runs."})
    interrupt_after = fields.Boolean(metadata={"description": "Wait for a person after the node ran."})
    position_x = fields.Integer(least=-FARTHEST, most=FARTHEST)
    position_y = fields.Integer(least=-FARTHEST, most=FARTHEST)
    subworkflow_id = fields.Id(allow_none=True)
    code_block_id = fields.Id(allow_none=True)


class NodeChanges(NodeFields):
    """What is to be different. `config` is merged setting by setting; null takes a setting away."""

    node_id = fields.String(validate=A_NODE_ID)
    component_type = fields.String(
        validate=validate.Length(1, 60), metadata={"description": "May be repeated, but not changed."}
    )
    config = fields.Dict(keys=fields.String())


class NodeDraftFields(NodeFields):
    """A node as it is made."""

    node_id = fields.String(
        allow_none=True, validate=A_NODE_ID, metadata={"description": "What edges and expressions call it."}
    )
    component_type = fields.String(required=True, validate=validate.Length(1, 60))
    config = fields.Dict(keys=fields.String())

    @post_load
    def make(self, loaded: dict[str, Any], **_options: object) -> NodeDraft:
        return NodeDraft(**loaded)


class StoredNodeFields(AnswerSchema, NodeFields):
    """A node as it is stored; secrets in its configuration are masked."""

    id = fields.Id()
    node_id = fields.String()
    component_type = fields.String()
    config = fields.Method("shown_config")
    updated_at = fields.UtcTime()

    def shown_config(self, node: WorkflowNode) -> dict[str, Any]:
        """The configuration with its secrets masked."""
        return node_config.shown(node.config)


class NodeDraftSchema(NodeDraftFields, OneOf):
    """A node of any type, as it is made."""

    discriminator = "component_type"

    def variants(self) -> Mapping[str, type[Schema]]:
        return {name: _variant(NodeDraftFields, "NodeDraft", known) for name, known in registry.load().items()}


class NodeSchema(StoredNodeFields, OneOf):
    """A node of any type, as it is stored."""

    discriminator = "component_type"

    def variants(self) -> Mapping[str, type[Schema]]:
        return {name: _variant(StoredNodeFields, "Node", known) for name, known in registry.load().items()}


class PortSchema(AnswerSchema):
    """A named place where values enter or leave a node."""

    name = fields.String()
    type = fields.String()
    description = fields.String()
    required = fields.Boolean()


class NodeTypeSchema(AnswerSchema):
    """A node type: what the palette shows, what connects to it, and the form of its configuration."""

    display_name = fields.String()
    category = fields.String()
    description = fields.String()
    icon = fields.String()
    color = fields.String()
    inputs = fields.List(fields.Nested(PortSchema))
    outputs = fields.List(fields.Nested(PortSchema))
    sub_inputs = fields.List(fields.String())
    routes = fields.List(fields.String())
    executable = fields.Boolean()
    config_schema = fields.Dict(keys=fields.String())


class NodeTypesSchema(Schema, SelfDescribed):
    """All node types by their names."""

    def json_schema(self, reference: Reference) -> JsonSchema:
        return {"type": "object", "additionalProperties": reference(NodeTypeSchema)}

    def dump(self, obj: Any, *, many: bool | None = None) -> dict[str, Any]:
        """An object has no fixed fields here: whatever types are installed."""
        return dict(obj)


def _variant(base: type[Schema], suffix: str, node_type: NodeType[Any]) -> type[Schema]:
    """`SwitchNode`: the base with the one type that it may have, and that type's configuration."""
    schema = node_type.schema if base is NodeDraftFields else _masked(node_type)
    is_required = base is not NodeDraftFields or any(field.required for field in schema().fields.values())
    members = {
        "component_type": fields.String(required=True, validate=validate.Equal(node_type.type)),
        "config": fields.Nested(schema, required=is_required),
        "__doc__": (node_type.__doc__ or node_type.title).strip(),
    }
    name = schema_name(node_type.type).removesuffix("Config")
    return type(f"{name}{suffix}Schema", (base,), members)


def _masked(node_type: NodeType[Any]) -> type[marshmallow.Schema]:
    """The schema of a stored configuration as it is shown: a masked secret need not be a valid one."""
    if not node_type.secrets:
        return node_type.schema
    secrets = {name: fields.String(metadata={"description": "Masked."}) for name in node_type.secrets}
    return type(f"{schema_name(node_type.type)}Shown", (node_type.schema,), secrets)
