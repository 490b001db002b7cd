"""The edges of a workflow, one at a time."""

from collections.abc import Sequence
from typing import Any

from flask.views import MethodView

from pipelit.api import etag
from pipelit.api.auth import current_user
from pipelit.api.blueprint import Blueprint
from pipelit.api.idempotency import idempotent
from pipelit.api.schemas import edge as schemas
from pipelit.models import WorkflowEdge
from pipelit.services import edges
from pipelit.services.drafts import EdgeDraft

blueprint = Blueprint("edges", "/workflows", "What follows what in a workflow.")

AN_EDGE = {"source_node_id": "hook", "target_node_id": "greeting"}


@blueprint.route("/<slug>/edges/")
class Edges(MethodView):
    @blueprint.response(200, schemas.EdgeSchema(many=True))
    def get(self, slug: str) -> Sequence[WorkflowEdge]:
        """All edges of a workflow."""
        return edges.of_workflow(slug, by=current_user())

    @idempotent
    @blueprint.arguments(schemas.EdgeDraftSchema, example=AN_EDGE)
    @blueprint.response(201, schemas.EdgeSchema)
    def post(self, draft: EdgeDraft, slug: str) -> WorkflowEdge:
        """Join two nodes."""
        return etag.tag(edges.create(slug, draft, by=current_user()))


@blueprint.route("/<slug>/edges/<id:edge_id>/")
class Edge(MethodView):
    @etag.tagged
    @blueprint.response(200, schemas.EdgeSchema)
    def get(self, slug: str, edge_id: int) -> WorkflowEdge:
        """One edge."""
        return etag.tag(edges.get(slug, edge_id, by=current_user()))

    @etag.guarded
    @blueprint.arguments(schemas.EdgeChanges, example={"priority": 10})
    @blueprint.response(200, schemas.EdgeSchema)
    def patch(self, changes: dict[str, Any], slug: str, edge_id: int) -> WorkflowEdge:
        """Change an edge."""
        return etag.tag(edges.update(slug, edge_id, changes, by=current_user(), precondition=etag.if_match()))

    @etag.guarded
    @blueprint.response(204)
    def delete(self, slug: str, edge_id: int) -> None:
        """Take an edge away."""
        edges.delete(slug, edge_id, by=current_user(), precondition=etag.if_match())
