"""A workflow's whole graph at once."""

from flask.views import MethodView

from pipelit.api import etag
from pipelit.api.auth import current_user
from pipelit.api.blueprint import Blueprint
from pipelit.api.schemas.graph import GraphSchema
from pipelit.api.schemas.workflow import WorkflowDetailSchema
from pipelit.nodes.ports import Json
from pipelit.services import content, graph, workflows
from pipelit.services.drafts import GraphDraft
from pipelit.services.workflows import Summary

blueprint = Blueprint("graph", "/workflows", "All nodes and edges in one document.")

A_GRAPH = {
    "nodes": [
        {"node_id": "start", "component_type": "trigger_manual"},
        {"node_id": "greeting", "component_type": "template", "config": {"template": "Hello {{ start.text }}"}},
    ],
    "edges": [{"source_node_id": "start", "target_node_id": "greeting"}],
}


@blueprint.route("/<slug>/graph/")
class Graph(MethodView):
    @etag.tagged
    @blueprint.response(200, GraphSchema)
    def get(self, slug: str) -> dict[str, Json]:
        """The graph as a document without ids and secrets: what `PUT` here and `pipelit import` take."""
        return content.document(etag.tag(graph.read(slug, by=current_user())))

    @etag.guarded
    @blueprint.arguments(GraphSchema, example=A_GRAPH)
    @blueprint.response(200, WorkflowDetailSchema)
    def put(self, draft: GraphDraft, slug: str) -> Summary:
        """Make the graph exactly this, or change nothing and say everything that is wrong with it."""
        workflow = graph.replace(slug, draft, by=current_user(), precondition=etag.if_match())
        return workflows.summary(etag.tag(workflow), current_user())
