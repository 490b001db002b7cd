"""Lists over HTTP: `limit` and `offset` in, `{"items", "total"}` out."""

from typing import Any

from pipelit.api.schemas import fields
from pipelit.api.schemas.base import Schema
from pipelit.services.paging import Page

MOST = 200


class PageArguments(Schema):
    """The query parameters of every list; a list with filters adds its own."""

    limit = fields.QueryInteger(least=1, most=MOST, load_default=50, metadata={"description": "Rows to answer."})
    offset = fields.QueryInteger(load_default=0, metadata={"description": "Rows to leave out before them."})


def page_of(schema: type[Schema]) -> type[Schema]:
    """The schema of a page of these."""
    name = schema.__name__.removesuffix("Schema") + "Page"
    members: dict[str, Any] = {
        "items": fields.List(fields.Nested(schema), required=True),
        "total": fields.Integer(required=True, metadata={"description": "Rows in all, on every page."}),
    }
    return type(name, (Schema,), {"__doc__": "A page of a list.", **members})


def take_page(arguments: dict[str, Any]) -> Page:
    """The page that was asked for, taken out of the arguments: what remains are the filters."""
    return Page(limit=arguments.pop("limit"), offset=arguments.pop("offset"))
