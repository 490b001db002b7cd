"""Workflows, who shares them, and their versions."""

from typing import Any

from marshmallow import ValidationError, validate, validates_schema

from pipelit.api.pagination import PageArguments
from pipelit.api.schemas import fields
from pipelit.api.schemas.base import AnswerSchema, ProblemItemSchema, Schema
from pipelit.api.schemas.edge import EdgeSchema
from pipelit.api.schemas.node import NodeSchema
from pipelit.engine.durability import Durability
from pipelit.engine.groups import Overlap
from pipelit.engine.slices import Placement
from pipelit.services import sizes
from pipelit.services.rights import SLUG, Access

MOST_SCHEMA_BYTES = 64 * 1024
LONGEST_RUN = 30 * 24 * 3600
MOST_CONCURRENT = 100_000
A_SLUG = fields.Pattern(f"^{SLUG.pattern}$", error="Letters a-z, digits, and - or _ between them; at most 200.")


def is_reasonable(value: dict[str, Any]) -> None:
    """Raises if a JSON schema is larger or deeper than anybody needs."""
    reason = sizes.objection(value, most_bytes=MOST_SCHEMA_BYTES)
    if reason is not None:
        raise ValidationError(reason)


class AboutFields(Schema):
    """What is said about a workflow anywhere, also in a file."""

    description = fields.String(validate=validate.Length(max=10_000))
    tags = fields.List(fields.String(validate=fields.a_name(50)), validate=validate.Length(max=50))
    input_schema = fields.Dict(keys=fields.String(), allow_none=True, validate=is_reasonable)
    output_schema = fields.Dict(keys=fields.String(), allow_none=True, validate=is_reasonable)
    max_execution_seconds = fields.Integer(least=1, most=LONGEST_RUN, allow_none=True)
    placement = fields.String(
        validate=validate.OneOf([placement.value for placement in Placement]),
        allow_none=True,
        metadata={
            "description": "`chained`: every step is a Celery task of its own. `local`: a task goes on with steps that "
            "do no IO. Null leaves it to the installation."
        },
    )
    durability = fields.String(
        validate=validate.OneOf([durability.value for durability in Durability]),
        metadata={
            "description": "`async`: results reach the database within a fraction of a second. `sync`: before anything "
            "follows from them, so that a step with a result never runs again, whatever is lost."
        },
    )
    max_concurrent = fields.Integer(
        least=1,
        most=MOST_CONCURRENT,
        allow_none=True,
        metadata={"description": "How many executions may be live at once. Null: any number."},
    )
    overlap = fields.String(
        validate=validate.OneOf([overlap.value for overlap in Overlap]),
        metadata={
            "description": "What becomes of an execution beyond the limit. `queue`: it waits for its turn. `drop`: it "
            "is recorded as cancelled, with the code `dropped`. `cancel_previous`: the oldest one is cancelled for it."
        },
    )
    serial_key = fields.String(
        validate=validate.Length(max=1000),
        allow_none=True,
        metadata={
            "description": "A template over the trigger's outputs, such as `{{ trigger.payload.customer }}`: only "
            "executions with the same key count together. Empty: all of the workflow."
        },
    )


class AboutSchema(AboutFields):
    """What a document says about its workflow."""

    name = fields.String(validate=fields.a_name(255))
    slug = fields.String(validate=A_SLUG)


class SettingsFields(AboutFields):
    """What can be set of a workflow here."""

    is_active = fields.Boolean(metadata={"description": "Only active workflows are started by outside events."})
    is_public = fields.Boolean(metadata={"description": "Everybody who signs in may look at it."})
    is_default = fields.Boolean(metadata={"description": "There is at most one; administrators choose it."})
    error_handler_workflow_id = fields.Id(allow_none=True)


class WorkflowArguments(SettingsFields):
    """A new workflow; without a slug it gets one made from its name."""

    name = fields.String(required=True, validate=fields.a_name(255))
    slug = fields.String(validate=A_SLUG)


class WorkflowChanges(SettingsFields):
    """What is to be different."""

    name = fields.String(validate=fields.a_name(255))
    slug = fields.String(validate=A_SLUG)


class CopyArguments(Schema):
    """What the copy is called; by default after the original."""

    name = fields.String(validate=fields.a_name(255))
    slug = fields.String(validate=A_SLUG)


class WorkflowSchema(AnswerSchema, SettingsFields):
    """A workflow without its graph."""

    id = fields.Id()
    name = fields.String()
    slug = fields.String()
    owner = fields.String(allow_none=True, metadata={"description": "A username."})
    access = fields.Enum(Access, by_value=True, metadata={"description": "What you are to it."})
    node_count = fields.Integer()
    edge_count = fields.Integer()
    revision = fields.Integer(metadata={"description": "Grows with every change of the graph."})
    created_at = fields.UtcTime()
    updated_at = fields.UtcTime()

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """What a summary does not know is the workflow's own."""
        return super().get_attribute(obj if hasattr(obj, attr) else obj.workflow, attr, default)


class WorkflowDetailSchema(WorkflowSchema):
    """A workflow with its graph."""

    nodes = fields.List(fields.Nested(NodeSchema))
    edges = fields.List(fields.Nested(EdgeSchema))


class WorkflowQuery(PageArguments):
    """Which workflows to list."""

    search = fields.String(validate=validate.Length(1, 200), metadata={"description": "In name, slug, description."})
    tag = fields.String(validate=validate.Length(1, 50))
    is_active = fields.QueryBoolean()


class DeleteQuery(Schema):
    """How to delete a workflow."""

    force = fields.QueryBoolean(
        load_default=False, metadata={"description": "Cancel what is running instead of refusing."}
    )


class SlugsSchema(Schema):
    """Workflows by their slugs."""

    slugs = fields.List(
        fields.String(validate=validate.Length(1, 200)), required=True, validate=validate.Length(1, 200)
    )


class ValidationSchema(AnswerSchema):
    """Whether a workflow can run, and everything that keeps it from doing so."""

    valid = fields.Boolean()
    errors = fields.List(fields.Nested(ProblemItemSchema))


class PersonFields(Schema):
    """A user, by id or by name."""

    user_id = fields.Id()
    username = fields.String(validate=validate.Length(1, 150))

    @validates_schema
    def is_one(self, loaded: dict[str, Any], **_options: object) -> None:
        if len({"user_id", "username"} & loaded.keys()) != 1:
            raise ValidationError("Send either user_id or username.", "username")


class ShareArguments(PersonFields):
    """Somebody to let in; somebody who is in already gets this role."""

    role = fields.String(
        validate=validate.OneOf(["editor", "viewer"]),
        load_default="viewer",
        metadata={"description": "Editors change and run the workflow, viewers look at it."},
    )


class WithdrawQuery(Schema):
    """Whose access to take away: one of the two."""

    user_id = fields.QueryInteger(least=1)
    username = fields.String(validate=validate.Length(1, 150))

    @validates_schema
    def is_one(self, loaded: dict[str, Any], **_options: object) -> None:
        if len(loaded) != 1:
            raise ValidationError("Send either user_id or username.", "username")


class CollaboratorSchema(AnswerSchema):
    """Somebody a workflow is shared with."""

    user_id = fields.Id(attribute="user_profile_id")
    username = fields.String(attribute="user.username")
    role = fields.String()
    invited_at = fields.UtcTime()


class VersionSchema(AnswerSchema):
    """A workflow as it was at one revision."""

    number = fields.Integer()
    revision = fields.Integer()
    created_at = fields.UtcTime()
    created_by_id = fields.Id(allow_none=True)


class VersionDetailSchema(VersionSchema):
    """A version with its graph."""

    graph = fields.Dict(keys=fields.String())
