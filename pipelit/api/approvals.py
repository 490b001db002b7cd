"""What waits for a person."""

from typing import Any

from flask.views import MethodView

from pipelit.api.auth import current_user
from pipelit.api.blueprint import Blueprint
from pipelit.api.pagination import page_of, take_page
from pipelit.api.schemas import approval as schemas
from pipelit.services import answers
from pipelit.services.answers import Question
from pipelit.services.paging import Listing

blueprint = Blueprint("approvals", "/approvals", "Questions that executions ask, and wait for an answer to.")

ApprovalPage = page_of(schemas.ApprovalSchema)


@blueprint.route("/")
class Approvals(MethodView):
    @blueprint.arguments(schemas.ApprovalQuery, location="query")
    @blueprint.response(200, ApprovalPage)
    def get(self, arguments: dict[str, Any]) -> Listing[Question]:
        """The questions that you may answer, oldest first. They are answered at their execution's resume address."""
        page = take_page(arguments)
        return answers.waiting_for(current_user(), page, **arguments)
