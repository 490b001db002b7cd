"""Edges."""

from typing import Any

from marshmallow import post_load, validate

from pipelit.api.schemas import fields
from pipelit.api.schemas.base import AnswerSchema, Schema
from pipelit.nodes.ports import EdgeLabel
from pipelit.services.drafts import EdgeDraft

A_NAME = validate.Length(1, 100)


class EdgeFields(Schema):
    """What an edge may say beside its ends."""

    edge_type = fields.String(
        validate=validate.OneOf(["direct", "conditional"]),
        metadata={"description": "`conditional` edges are taken only when their source chooses their route."},
    )
    edge_label = fields.String(
        validate=validate.OneOf([str(label) for label in EdgeLabel]),
        metadata={"description": "What the edge means; empty: data flows along it."},
    )
    condition_value = fields.String(
        allow_none=True, validate=A_NAME, metadata={"description": "The route that takes this edge."}
    )
    condition_mapping = fields.Dict(
        keys=fields.String(validate=A_NAME),
        values=fields.String(validate=A_NAME),
        allow_none=True,
        validate=validate.Length(max=100),
        metadata={"description": "Routes to nodes; those that lead to this edge's target take it."},
    )
    priority = fields.Integer(least=-1_000_000, most=1_000_000)
    source_port = fields.String(allow_none=True, validate=A_NAME)
    target_port = fields.String(allow_none=True, validate=A_NAME)


class EdgeChanges(EdgeFields):
    """What is to be different."""

    source_node_id = fields.String(validate=A_NAME)
    target_node_id = fields.String(validate=A_NAME)


class EdgeDraftSchema(EdgeFields):
    """An edge from one node to another, both named by `node_id`."""

    source_node_id = fields.String(required=True, validate=A_NAME)
    target_node_id = fields.String(required=True, validate=A_NAME)

    @post_load
    def make(self, loaded: dict[str, Any], **_options: object) -> EdgeDraft:
        return EdgeDraft(**loaded)


class EdgeSchema(AnswerSchema, EdgeFields):
    """An edge as it is stored."""

    id = fields.Id()
    source_node_id = fields.String()
    target_node_id = fields.String()
    updated_at = fields.UtcTime()
