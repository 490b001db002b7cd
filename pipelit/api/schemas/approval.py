"""Questions that executions ask."""

from marshmallow import validate

from pipelit.api.pagination import PageArguments
from pipelit.api.schemas import fields
from pipelit.api.schemas.base import AnswerSchema

KINDS = ("before", "after", "approval", "external")


class ApprovalQuery(PageArguments):
    """Which questions to list."""

    workflow_slug = fields.String(validate=validate.Length(1, 255))
    execution_id = fields.String(validate=validate.Length(1, 36))


class FormFieldSchema(AnswerSchema):
    """Something to fill in; the answer's data hold it under its name."""

    name = fields.String()
    label = fields.String()
    type = fields.String(validate=validate.OneOf(["text", "number", "boolean", "select", "date"]))
    required = fields.Boolean()
    options = fields.List(fields.String())


class ApprovalSchema(AnswerSchema):
    """A question, and where it is asked."""

    task_id = fields.String(attribute="task.task_id")
    execution_id = fields.String(attribute="task.execution_id")
    workflow_slug = fields.String(attribute="task.execution.workflow.slug")
    workflow_name = fields.String(attribute="task.execution.workflow.name")
    node_id = fields.String(attribute="task.node_id")
    step = fields.String(
        attribute="task.step", metadata={"description": "The node, and the loop iterations around it."}
    )
    kind = fields.String(
        attribute="task.kind",
        validate=validate.OneOf(KINDS),
        metadata={"description": "Held before or after a step, a confirmation, or a wait for somebody outside."},
    )
    prompt = fields.String(attribute="task.prompt", allow_none=True)
    form = fields.List(fields.Nested(FormFieldSchema), attribute="task.form", allow_none=True)
    created_at = fields.UtcTime(attribute="task.created_at")
    expires_at = fields.UtcTime(attribute="task.expires_at", allow_none=True)
    resume_url = fields.String(
        allow_none=True, metadata={"description": "Where a stranger may resume a wait for somebody outside."}
    )


class ResumedSchema(AnswerSchema):
    """The step goes on."""

    status = fields.String(validate=validate.OneOf(["resumed"]))
