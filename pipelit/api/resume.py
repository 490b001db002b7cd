"""Addresses at which strangers resume a waiting step: whoever knows one may use it, once."""

from collections.abc import Callable

from flask import request
from flask.views import MethodView
from werkzeug.exceptions import MethodNotAllowed

from pipelit.api import bodies
from pipelit.api.auth import open_route
from pipelit.api.blueprint import Blueprint
from pipelit.api.schemas.approval import ResumedSchema
from pipelit.nodes.ports import Json
from pipelit.services import answers

blueprint = Blueprint("resuming", "/resume", "Addresses that resume one waiting step each.")


@blueprint.route("/<token>/")
class Resumption(MethodView):
    @open_route
    @blueprint.response(200, ResumedSchema)
    @blueprint.refusal(405)
    @blueprint.refusal(413)
    @blueprint.refusal(415)
    @blueprint.refusal(422)
    def post(self, token: str) -> dict[str, str]:
        """Resume the step; what is sent becomes its output."""
        return _resume(token, lambda: bodies.parse(request))

    @open_route
    @blueprint.response(200, ResumedSchema)
    @blueprint.refusal(405)
    @blueprint.refusal(409)
    def get(self, token: str) -> dict[str, str]:
        """Resume the step by opening a link, where its node allows that; the parameters become its output."""
        return _resume(token, lambda: bodies.values(request.args) or None)


def _resume(token: str, sent: Callable[[], Json]) -> dict[str, str]:
    methods = answers.resume_methods(token)
    if request.method not in methods:
        raise MethodNotAllowed(methods)
    answers.resume(token, sent())
    return {"status": "resumed"}
