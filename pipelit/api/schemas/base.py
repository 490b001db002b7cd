"""What all schemas share."""

from collections.abc import Mapping
from typing import Any

from marshmallow import RAISE, ValidationError
from marshmallow import Schema as MarshmallowSchema

from pipelit.api.schemas import fields
from pipelit.errors import Invalid
from pipelit.nodes.settings import messages_by_path


class Schema(MarshmallowSchema):
    """Keeps its fields in the order they are declared in; a field it does not know is refused."""

    class Meta:
        unknown = RAISE


def load(schema: Schema, document: Mapping[str, Any]) -> Any:
    """A document that did not come by HTTP. Raises `Invalid` with the path of everything that is wrong."""
    try:
        return schema.load(document)
    except ValidationError as error:
        errors = messages_by_path(error)
        path, messages = next(iter(errors.items()))
        raise Invalid(f"{path}: {messages[0]}", errors) from None


class AnswerSchema(Schema):
    """An answer has all of its fields, always."""

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.required = True


class ProblemItemSchema(Schema):
    """One thing wrong with a workflow's graph."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    node_id = fields.String(allow_none=True)
    edge_id = fields.Integer(allow_none=True)


class ProblemSchema(Schema):
    """Why a request was refused (RFC 9457)."""

    type = fields.String(required=True, metadata={"description": "A URI for this kind of problem."})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    code = fields.String(required=True, metadata={"description": "For programs; docs/errors.md explains each."})
    detail = fields.String(required=True, metadata={"description": "One sentence for a person."})
    errors = fields.Dict(
        keys=fields.String(), values=fields.List(fields.String()), metadata={"description": "Messages by field path."}
    )
    problems = fields.List(fields.Nested(ProblemItemSchema), metadata={"description": "What is wrong with a graph."})
    instance = fields.String(metadata={"description": "Of a failure of ours: the id its log lines carry."})
