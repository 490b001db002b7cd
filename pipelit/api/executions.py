"""Executions: started by hand, looked at, stopped, answered, put away."""

from typing import Any

from flask import Response, jsonify, make_response, request
from flask.views import MethodView

from pipelit.api import etag
from pipelit.api.auth import current_user
from pipelit.api.blueprint import Blueprint
from pipelit.api.idempotency import idempotent, idempotent_start
from pipelit.api.pagination import page_of, take_page
from pipelit.api.schemas import execution as schemas
from pipelit.api.waiting import hear_end, start_and_wait
from pipelit.models import WorkflowExecution
from pipelit.services import answers, execution_details, execution_events, executions, retries
from pipelit.services.answers import Answer
from pipelit.services.execution_details import Detail, LogView
from pipelit.services.executions import Filters
from pipelit.services.paging import Listing
from pipelit.services.reuse import Retry

starting = Blueprint("starting", "/workflows", "Runs of workflows.")
blueprint = Blueprint("executions", "/executions", "Runs of workflows, and all that happened in them.")

ONE_EXECUTION = {"execution_ids": ["1b671a64-40d5-491e-99b0-da01ff1f3341"]}
ExecutionPage = page_of(schemas.ExecutionSchema)


def _started(execution_id: str, seconds: int = 0) -> Response:
    """The answer of an execution that an earlier request started, as that would have answered."""
    if seconds:
        hear_end(execution_id, seconds)
    found = execution_details.get(execution_id, by=current_user())
    if seconds and not found.execution.is_live:
        return jsonify(schemas.ExecutionDetailSchema().dump(found))
    return make_response(jsonify(schemas.StartedSchema().dump(found.execution)), 202)


def _started_and_awaited(execution_id: str) -> Response:
    return _started(execution_id, schemas.WaitQuery().load(request.args)["wait"])


@starting.route("/<slug>/execute/")
class Execute(MethodView):
    @idempotent_start(_started_and_awaited)
    @starting.arguments(schemas.WaitQuery, location="query")
    @starting.arguments(schemas.ExecuteArguments, required=False, example={"text": "Hello", "payload": {"vip": True}})
    @starting.response(202, schemas.StartedSchema)
    @starting.also(200, schemas.ExecutionDetailSchema, description="It ended while you waited.")
    def post(self, query: dict[str, Any], body: dict[str, Any], slug: str) -> WorkflowExecution | Response:
        """Run a workflow."""
        user = current_user()
        row = start_and_wait(lambda new: executions.start(slug, by=user, execution_id=new, **body), query["wait"])
        if not query["wait"]:
            return row
        found = execution_details.get(row.execution_id, by=user)
        return found.execution if found.execution.is_live else jsonify(schemas.ExecutionDetailSchema().dump(found))


@blueprint.route("/")
class Executions(MethodView):
    @blueprint.arguments(schemas.ExecutionQuery, location="query")
    @blueprint.response(200, ExecutionPage)
    def get(self, arguments: dict[str, Any]) -> Listing[WorkflowExecution]:
        """The executions of the workflows you may look at, newest first."""
        page = take_page(arguments)
        return executions.listed(Filters(**arguments), page, by=current_user())


@blueprint.route("/batch-delete/")
class DeletedExecutions(MethodView):
    @idempotent
    @blueprint.arguments(
        schemas.ExecutionIdsSchema, example={"execution_ids": ["1b671a64-40d5-491e-99b0-da01ff1f3341"]}
    )
    @blueprint.response(204)
    @blueprint.refusal(404)
    def post(self, body: dict[str, Any]) -> None:
        """Delete all of these executions, or none of them. Live ones are refused."""
        executions.remove(body["execution_ids"], by=current_user())


@blueprint.route("/<slug:execution_id>/")
class Execution(MethodView):
    @etag.tagged
    @blueprint.response(200, schemas.ExecutionDetailSchema)
    def get(self, execution_id: str) -> Detail:
        """An execution with its logs and the executions it started."""
        return execution_details.get(execution_id, by=current_user())

    @blueprint.response(204)
    def delete(self, execution_id: str) -> None:
        """Delete an ended execution, and all that was kept of it."""
        executions.remove([execution_id], by=current_user())


@blueprint.route(f"/<execution_id>/logs/<int(min=1, max={schemas.LARGEST_LOG}):log_id>/")
class Log(MethodView):
    @blueprint.response(200, schemas.LogSchema)
    def get(self, execution_id: str, log_id: int) -> LogView:
        """One log with its values whole, however large they are."""
        return execution_details.log(execution_id, log_id, by=current_user())


@blueprint.route("/<execution_id>/events/")
class Events(MethodView):
    @blueprint.arguments(schemas.EventsQuery, location="query")
    @blueprint.response(200, schemas.EventsSchema)
    def get(self, arguments: dict[str, Any], execution_id: str) -> dict[str, Any]:
        """The numbered events, as they were told over the WebSocket."""
        found = executions.get(execution_id, by=current_user())
        return {"items": execution_events.after(found.execution_id, arguments["after"], arguments["limit"])}


@blueprint.route("/<execution_id>/cancel/")
class Cancel(MethodView):
    @idempotent
    @blueprint.response(200, schemas.ExecutionSchema)
    def post(self, execution_id: str) -> WorkflowExecution:
        """Stop an execution. What runs is told to stop, what waits does not begin."""
        return executions.cancel(execution_id, by=current_user())


@blueprint.route("/<execution_id>/retry/")
class Retried(MethodView):
    @idempotent_start(_started)
    @blueprint.arguments(
        schemas.RetryArguments,
        required=False,
        example={"from_node_id": "send", "inputs": {"write": {"output": "Dear Ada"}}},
    )
    @blueprint.response(202, schemas.StartedSchema)
    def post(self, body: dict[str, Any], execution_id: str) -> WorkflowExecution:
        """Run what failed, or from a node on, as a new execution that reuses the steps before."""
        return retries.retry(execution_id, Retry(**body), by=current_user())


@blueprint.route("/<execution_id>/resume/")
class Resume(MethodView):
    @idempotent
    @blueprint.arguments(schemas.ResumeArguments, required=False, example={"decision": "approve"})
    @blueprint.response(200, schemas.ExecutionSchema)
    def post(self, body: dict[str, Any], execution_id: str) -> WorkflowExecution:
        """Answer what an execution waits for."""
        return answers.answer(execution_id, Answer(**body), by=current_user())
