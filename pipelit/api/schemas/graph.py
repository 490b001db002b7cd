"""A whole graph as one document."""

from collections.abc import Mapping
from typing import Any

from marshmallow import post_load, validate

from pipelit.api.schemas import fields
from pipelit.api.schemas.base import Schema, load
from pipelit.api.schemas.edge import EdgeDraftSchema
from pipelit.api.schemas.node import NodeDraftSchema
from pipelit.api.schemas.workflow import AboutSchema
from pipelit.services.drafts import MOST_EDGES, MOST_NODES, GraphDraft


class GraphSchema(Schema):
    """All nodes and edges; `workflow` says what the document is about, and may be left out."""

    workflow = fields.Nested(AboutSchema)
    nodes = fields.List(fields.Nested(NodeDraftSchema), required=True, validate=validate.Length(max=MOST_NODES))
    edges = fields.List(fields.Nested(EdgeDraftSchema), required=True, validate=validate.Length(max=MOST_EDGES))

    @post_load
    def make(self, loaded: dict[str, Any], **_options: object) -> GraphDraft:
        return GraphDraft(**loaded)


def parse(document: Mapping[str, Any]) -> GraphDraft:
    """A document as a draft. Raises `Invalid` with the path of everything that is wrong."""
    draft: GraphDraft = load(GraphSchema(), document)
    return draft
