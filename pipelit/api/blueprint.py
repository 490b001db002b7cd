"""Blueprints whose views declare what they take and what they answer: the one place that knows flask-smorest.

```python
blueprint = Blueprint("users", "/users", "People and agents.")


@blueprint.route("/<id:user_id>/")
class User(MethodView):
    @blueprint.response(200, UserSchema)
    def get(self, user_id: int) -> UserProfile:
        \"\"\"A user.\"\"\"
        return users.get(user_id)
```
"""

from collections.abc import Callable
from typing import Any, TypeVar

import flask_smorest
from flask.views import MethodView
from marshmallow import Schema

from pipelit.api.parser import Parser

View = TypeVar("View", bound=Callable[..., Any])
Resource = TypeVar("Resource", bound=type[MethodView])
SchemaLike = type[Schema] | Schema


class Blueprint:
    """The views of one noun, beneath one prefix, under one heading of the documentation."""

    def __init__(self, name: str, prefix: str, description: str) -> None:
        # `Any`: flask-smorest brings no types; the methods here say what we use of it.
        self.inner: Any = flask_smorest.Blueprint(name, name, description=description)
        self.prefix = prefix

    def route(self, rule: str) -> Callable[[Resource], Resource]:
        """Serve a resource under a rule, given with its trailing slash."""
        register: Callable[[Resource], Resource] = self.inner.route(rule)
        return register

    def arguments(
        self, schema: SchemaLike, *, location: str = "json", example: object = None, required: bool = True
    ) -> Callable[[View], View]:
        """Read the body (`json`) or the parameters (`query`) into an argument of the view."""
        options = {} if example is None else {"example": example}
        # Read when the view is decorated, which is now.
        self.inner.ARGUMENTS_PARSER = Parser(needs_body=required)
        decorate: Callable[[View], View] = self.inner.arguments(schema, location=location, required=required, **options)
        return decorate

    def response(
        self, status: int, schema: SchemaLike | None = None, *, description: str | None = None, example: object = None
    ) -> Callable[[View], View]:
        """Answer with this status, and with what the view returns as this schema has it."""
        decorate: Callable[[View], View] = self.inner.response(status, schema, description=description, example=example)
        return decorate

    def also(
        self, status: int, schema: SchemaLike | None = None, *, description: str | None = None, example: object = None
    ) -> Callable[[View], View]:
        """Document another success than the usual one."""
        decorate: Callable[[View], View] = self.inner.alt_response(
            status, schema=schema, description=description, example=example, success=True
        )
        return decorate

    def text(self, status: int, content_type: str) -> Callable[[View], View]:
        """Document an answer that is not JSON; the view returns the response itself."""
        decorate: Callable[[View], View] = self.inner.response(status, {"type": "string"}, content_type=content_type)
        return decorate

    def refusal(self, status: int) -> Callable[[View], View]:
        """Document a refusal that does not follow from the shape of the operation."""
        decorate: Callable[[View], View] = self.inner.alt_response(status)
        return decorate

    def doc(self, **operation: Any) -> Callable[[View], View]:
        """Add to the documentation of a view, in OpenAPI's own words."""
        decorate: Callable[[View], View] = self.inner.doc(**operation)
        return decorate
