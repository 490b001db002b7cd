"""Workflows: the list, one of them, its copies, versions and collaborators."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask.views import MethodView

from pipelit.api import etag
from pipelit.api.auth import current_user
from pipelit.api.blueprint import Blueprint
from pipelit.api.errors import describe
from pipelit.api.idempotency import idempotent
from pipelit.api.pagination import PageArguments, page_of, take_page
from pipelit.api.schemas import workflow as schemas
from pipelit.api.schemas.node import NodeTypesSchema
from pipelit.models import Workflow as WorkflowRow
from pipelit.models import WorkflowCollaborator, WorkflowVersion
from pipelit.nodes.describe import NodeTypeDescription
from pipelit.services import collaborators, node_types, removal, workflows
from pipelit.services.paging import Listing
from pipelit.services.workflows import Summary

blueprint = Blueprint("workflows", "/workflows", "Graphs of triggers, tools and logic, and who shares them.")

WorkflowPage = page_of(schemas.WorkflowSchema)
CollaboratorPage = page_of(schemas.CollaboratorSchema)
VersionPage = page_of(schemas.VersionSchema)
ORDERS = {"name": "Order intake", "description": "Greets every order.", "tags": ["shop"]}


@blueprint.route("/")
class Workflows(MethodView):
    @blueprint.arguments(schemas.WorkflowQuery, location="query")
    @blueprint.response(200, WorkflowPage)
    def get(self, arguments: dict[str, Any]) -> Listing[Summary]:
        """The workflows you may look at, newest first."""
        return workflows.all_of(current_user(), take_page(arguments), **arguments)

    @idempotent
    @blueprint.arguments(schemas.WorkflowArguments, example=ORDERS)
    @blueprint.response(201, schemas.WorkflowSchema)
    def post(self, body: dict[str, Any]) -> Summary:
        """Make an empty workflow."""
        return _tagged(workflows.create(body, by=current_user()))


@blueprint.route("/node-types/")
class NodeTypes(MethodView):
    @blueprint.response(200, NodeTypesSchema)
    def get(self) -> Mapping[str, NodeTypeDescription]:
        """Every node type that is installed, with the form of its configuration."""
        return node_types.described()


@blueprint.route("/batch-delete/")
class DeletedWorkflows(MethodView):
    @idempotent
    @blueprint.arguments(schemas.SlugsSchema, example={"slugs": ["order-intake"]})
    @blueprint.response(204)
    @blueprint.refusal(404)
    def post(self, body: dict[str, Any]) -> None:
        """Delete all of these workflows, or none of them."""
        removal.delete_many(body["slugs"], by=current_user())


@blueprint.route("/<slug:slug>/")
class Workflow(MethodView):
    @etag.tagged
    @blueprint.response(200, schemas.WorkflowDetailSchema)
    def get(self, slug: str) -> Summary:
        """A workflow with its nodes and edges."""
        found = workflows.get(slug, by=current_user())
        etag.tag(found.workflow)
        return found

    @etag.guarded
    @blueprint.arguments(schemas.WorkflowChanges, example={"is_active": False})
    @blueprint.response(200, schemas.WorkflowSchema)
    def patch(self, changes: dict[str, Any], slug: str) -> Summary:
        """Change a workflow itself, not its graph."""
        return _tagged(workflows.update(slug, changes, by=current_user(), precondition=etag.if_match()))

    @etag.guarded
    @blueprint.arguments(schemas.DeleteQuery, location="query")
    @blueprint.response(204)
    def delete(self, arguments: dict[str, Any], slug: str) -> None:
        """Delete a workflow. Its executions can still be read by their ids."""
        removal.delete(slug, by=current_user(), is_forced=arguments["force"], precondition=etag.if_match())


@blueprint.route("/<slug>/duplicate/")
class Copies(MethodView):
    @idempotent
    @blueprint.arguments(schemas.CopyArguments, required=False, example={"name": "Order intake, second try"})
    @blueprint.response(201, schemas.WorkflowSchema)
    def post(self, body: dict[str, Any], slug: str) -> Summary:
        """Copy a workflow. The copy is yours, and inactive."""
        return _tagged(workflows.duplicate(slug, body, by=current_user()))


@blueprint.route("/<slug>/validate/")
class Validation(MethodView):
    @blueprint.response(200, schemas.ValidationSchema)
    def post(self, slug: str) -> dict[str, Any]:
        """Say everything that keeps a workflow from running. Nothing is executed."""
        found = workflows.problems(slug, by=current_user())
        return {"valid": not found, "errors": [describe(problem) for problem in found]}


@blueprint.route("/<slug>/collaborators/")
class Collaborators(MethodView):
    @blueprint.response(200, CollaboratorPage)
    def get(self, slug: str) -> dict[str, Any]:
        """Who the workflow is shared with."""
        found: Sequence[WorkflowCollaborator] = collaborators.of_workflow(slug, by=current_user())
        return {"items": found, "total": len(found)}

    @idempotent
    @blueprint.arguments(schemas.ShareArguments, example={"username": "grace", "role": "editor"})
    @blueprint.response(201, schemas.CollaboratorSchema)
    def post(self, body: dict[str, Any], slug: str) -> WorkflowCollaborator:
        """Share the workflow with somebody, or give them another role."""
        return collaborators.share(slug, _person(body), body["role"], by=current_user())

    @blueprint.arguments(schemas.WithdrawQuery, location="query")
    @blueprint.response(204)
    def delete(self, arguments: dict[str, Any], slug: str) -> None:
        """Take somebody's access away; your own, if you want to leave."""
        collaborators.withdraw(slug, _person(arguments), by=current_user())


@blueprint.route("/<slug>/collaborators/<id:user_id>/")
class Collaborator(MethodView):
    @blueprint.response(204)
    def delete(self, slug: str, user_id: int) -> None:
        """Take somebody's access away; your own, if you want to leave."""
        collaborators.withdraw(slug, user_id, by=current_user())


@blueprint.route("/<slug>/versions/")
class Versions(MethodView):
    @blueprint.arguments(PageArguments, location="query")
    @blueprint.response(200, VersionPage)
    def get(self, arguments: dict[str, Any], slug: str) -> Listing[WorkflowVersion]:
        """The versions that executions ran on, newest first."""
        return workflows.versions(slug, take_page(arguments), by=current_user())


@blueprint.route("/<slug>/versions/<id:number>/")
class Version(MethodView):
    @blueprint.response(200, schemas.VersionDetailSchema)
    def get(self, slug: str, number: int) -> WorkflowVersion:
        """One version, with its graph."""
        return workflows.version(slug, number, by=current_user())


def _person(named: Mapping[str, Any]) -> int | str:
    person: int | str = named["user_id"] if "user_id" in named else named["username"]
    return person


def _tagged(workflow: WorkflowRow) -> Summary:
    return workflows.summary(etag.tag(workflow), current_user())
