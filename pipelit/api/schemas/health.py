"""Signs of life."""

from pipelit.api.schemas import fields
from pipelit.api.schemas.base import Schema


class AliveSchema(Schema):
    """This process answers."""

    status = fields.String(required=True)
    version = fields.String(required=True)


class ReadySchema(Schema):
    """Work that comes in now will be done."""

    status = fields.String(required=True)
