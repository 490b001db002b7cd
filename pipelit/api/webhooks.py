"""The addresses that strangers call: each belongs to a node of a workflow, which says who may call it and how."""

import json

from flask import Response, jsonify, request
from flask.views import MethodView
from werkzeug.exceptions import MethodNotAllowed

from pipelit import clock
from pipelit.api import bodies, live
from pipelit.api.auth import open_route
from pipelit.api.blueprint import Blueprint
from pipelit.api.errors import SECONDS_UNTIL_RETRY, problem
from pipelit.api.idempotency import HEADER, once
from pipelit.api.marks import IDEMPOTENT, mark
from pipelit.api.schemas.execution import StartedSchema
from pipelit.api.waiting import Ending, hear_end, start_and_hear_end
from pipelit.errors import Dropped, ExecutionFailed
from pipelit.models import WorkflowExecution
from pipelit.services import executions, webhooks
from pipelit.services.triggers import Match
from pipelit.services.webhooks import Delivery

blueprint = Blueprint("webhooks", "/webhooks", "Addresses that start workflows.")

DROPPED = "As many executions of the workflow run as may, and it lets none wait. Nothing of this one has run."

FAILURES = {
    "failed": "The workflow failed.",
    "cancelled": "The workflow was cancelled.",
    "timed_out": "The workflow took too long.",
}


@blueprint.route("/<path:path>")
class Webhook(MethodView):
    @mark(IDEMPOTENT)
    @open_route
    @blueprint.response(202, StartedSchema)
    @blueprint.also(200, description="The output of the workflow's last node, if the webhook answers with it.")
    @blueprint.refusal(401)
    @blueprint.refusal(405)
    @blueprint.refusal(413)
    @blueprint.refusal(415)
    @blueprint.refusal(422)
    @blueprint.refusal(429)
    def post(self, path: str) -> Response:
        """Start the workflow whose webhook has this path, if the webhook takes this method."""
        path = path.removesuffix("/")
        match = webhooks.find(path)
        if request.method not in match.config.methods:
            raise MethodNotAllowed(match.config.methods)
        delivery = Delivery(path, request.method, dict(request.headers), bodies.values(request.args))
        webhooks.verify(match, delivery, request.get_data(cache=True), clock.now())
        key = request.headers.get(HEADER)
        if key is None:
            return _start(match, delivery)
        owner = f"webhook:{match.workflow.id}:{path}"
        return once(owner, key, lambda: _start(match, delivery), lambda started: _started(match, started))

    get = put = patch = delete = head = options = post


def _start(match: Match, delivery: Delivery) -> Response:
    body = bodies.parse(request)

    def start(execution_id: str | None = None, reply_to: str | None = None) -> WorkflowExecution:
        return webhooks.receive(match, delivery, body, execution_id=execution_id, reply_to=reply_to)

    if match.config.respond == "now":
        return _accepted(start())
    row, ending = start_and_hear_end(start, live.current_live().limits.webhook)
    return _accepted(row) if ending is None else _ended(row, ending)


def _started(match: Match, execution_id: str) -> Response:
    """The answer of an execution that an earlier request started, as that would have answered."""
    row = executions.get(execution_id, by=None)
    if match.config.respond == "now":
        return _accepted(row)
    ending = hear_end(execution_id, live.current_live().limits.webhook)
    return _accepted(row) if ending is None else _ended(row, ending)


def _accepted(row: WorkflowExecution) -> Response:
    response = jsonify(StartedSchema().dump(row))
    response.status_code = 202
    return response


def _ended(row: WorkflowExecution, ending: Ending) -> Response:
    """The output as it is; of a failure only that there was one, because the caller is a stranger."""
    if ending.status == "completed":
        return Response(json.dumps(ending.output), content_type="application/json")
    if ending.error_code == Dropped.code:
        response = problem(Dropped.status, Dropped.code, Dropped.title, DROPPED, execution_id=row.execution_id)
        response.headers["Retry-After"] = str(SECONDS_UNTIL_RETRY)
        return response
    failed = ExecutionFailed(FAILURES[ending.status])
    return problem(failed.status, failed.code, failed.title, failed.detail, execution_id=row.execution_id)
