"""The nodes of a workflow, one at a time."""

from collections.abc import Sequence
from typing import Any

from flask.views import MethodView

from pipelit.api import etag
from pipelit.api.auth import current_user
from pipelit.api.blueprint import Blueprint
from pipelit.api.idempotency import idempotent
from pipelit.api.schemas import node as schemas
from pipelit.models import WorkflowNode
from pipelit.services import nodes
from pipelit.services.drafts import NodeDraft

blueprint = Blueprint("nodes", "/workflows", "The steps and triggers of a workflow.")

GREETING = {"node_id": "greeting", "component_type": "template", "config": {"template": "Hello {{ trigger.text }}"}}


@blueprint.route("/<slug>/nodes/")
class Nodes(MethodView):
    @blueprint.response(200, schemas.NodeSchema(many=True))
    def get(self, slug: str) -> Sequence[WorkflowNode]:
        """All nodes of a workflow."""
        return nodes.of_workflow(slug, by=current_user())

    @idempotent
    @blueprint.arguments(schemas.NodeDraftSchema, example=GREETING)
    @blueprint.response(201, schemas.NodeSchema)
    def post(self, draft: NodeDraft, slug: str) -> WorkflowNode:
        """Add a node."""
        return etag.tag(nodes.create(slug, draft, by=current_user()))


@blueprint.route("/<slug>/nodes/<node_id>/")
class Node(MethodView):
    @etag.tagged
    @blueprint.response(200, schemas.NodeSchema)
    def get(self, slug: str, node_id: str) -> WorkflowNode:
        """One node."""
        return etag.tag(nodes.get(slug, node_id, by=current_user()))

    @etag.guarded
    @blueprint.arguments(schemas.NodeChanges, example={"label": "Greeting", "position_x": 300})
    @blueprint.response(200, schemas.NodeSchema)
    def patch(self, changes: dict[str, Any], slug: str, node_id: str) -> WorkflowNode:
        """Change a node; a new name is put on its edges, too."""
        return etag.tag(nodes.update(slug, node_id, changes, by=current_user(), precondition=etag.if_match()))

    @etag.guarded
    @blueprint.response(204)
    def delete(self, slug: str, node_id: str) -> None:
        """Take a node away, and the edges at it."""
        nodes.delete(slug, node_id, by=current_user(), precondition=etag.if_match())
