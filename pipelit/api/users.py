"""Users, for administrators, and everybody's own API keys."""

from typing import Any

from flask.views import MethodView

from pipelit import clock
from pipelit.api import etag
from pipelit.api.auth import admin_route, current_user
from pipelit.api.blueprint import Blueprint
from pipelit.api.idempotency import idempotent
from pipelit.api.pagination import PageArguments, page_of, take_page
from pipelit.api.schemas import account as schemas
from pipelit.api.schemas.base import Schema
from pipelit.models import APIKey, UserProfile
from pipelit.services import tokens, users
from pipelit.services.paging import Listing

blueprint = Blueprint("users", "/users", "People and agents that may call the API, and the keys they call it with.")

UserPage = page_of(schemas.UserSchema)
KeyPage = page_of(schemas.KeySchema)
GRACE = {"username": "grace", "password": "correct horse battery", "role": "normal"}
DEPLOY = {"name": "deploy", "expires_at": "2030-01-01T00:00:00Z"}


@blueprint.route("/")
class Users(MethodView):
    @admin_route
    @blueprint.arguments(PageArguments, location="query")
    @blueprint.response(200, UserPage)
    def get(self, arguments: dict[str, Any]) -> Listing[UserProfile]:
        """All users."""
        return users.everybody(take_page(arguments))

    @admin_route
    @idempotent
    @blueprint.arguments(schemas.UserArguments, example=GRACE)
    @blueprint.response(201, schemas.UserSchema)
    def post(self, body: dict[str, Any]) -> UserProfile:
        """Make a user who signs in with a password."""
        return etag.tag(users.create(**body))


@blueprint.route("/agents/")
class Agents(MethodView):
    @admin_route
    @idempotent
    @blueprint.arguments(schemas.AgentArguments, example={"username": "night-shift"})
    @blueprint.response(201, schemas.AgentSchema)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make an agent: a user without a password, with an API key that is shown once."""
        agent, made = users.create_agent(body["username"], body["role"], clock.now())
        return _with_key(agent, schemas.UserSchema, made)


@blueprint.route("/<id:user_id>/")
class User(MethodView):
    @admin_route
    @etag.tagged
    @blueprint.response(200, schemas.UserSchema)
    def get(self, user_id: int) -> UserProfile:
        """A user."""
        return etag.tag(users.get(user_id))

    @admin_route
    @etag.guarded
    @blueprint.arguments(schemas.UserChanges, example={"role": "admin"})
    @blueprint.response(200, schemas.UserSchema)
    def patch(self, changes: dict[str, Any], user_id: int) -> UserProfile:
        """Change a user."""
        return etag.tag(users.change(user_id, changes, etag.if_match()))

    @admin_route
    @etag.guarded
    @blueprint.response(204)
    def delete(self, user_id: int) -> None:
        """Remove a user and their keys."""
        users.remove(user_id, etag.if_match())


@blueprint.route("/me/keys/")
class OwnKeys(MethodView):
    @blueprint.arguments(PageArguments, location="query")
    @blueprint.response(200, KeyPage)
    def get(self, arguments: dict[str, Any]) -> Listing[APIKey]:
        """Your API keys, newest first."""
        return tokens.of_user(current_user().id, take_page(arguments))

    @idempotent
    @blueprint.arguments(schemas.KeyArguments, example=DEPLOY)
    @blueprint.response(201, schemas.NewKeySchema)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make an API key. It is shown once."""
        made = tokens.create(current_user().id, at=clock.now(), **body)
        return _with_key(made.row, schemas.KeySchema, made)


@blueprint.route("/me/keys/<id:key_id>/")
class OwnKey(MethodView):
    @blueprint.response(204)
    def delete(self, key_id: int) -> None:
        """Make one of your API keys worthless."""
        tokens.remove(current_user().id, key_id)


@blueprint.route("/<id:user_id>/keys/")
class Keys(MethodView):
    @admin_route
    @blueprint.arguments(PageArguments, location="query")
    @blueprint.response(200, KeyPage)
    def get(self, arguments: dict[str, Any], user_id: int) -> Listing[APIKey]:
        """A user's API keys, newest first."""
        return tokens.of_user(user_id, take_page(arguments))

    @admin_route
    @idempotent
    @blueprint.arguments(schemas.KeyArguments, example=DEPLOY)
    @blueprint.response(201, schemas.NewKeySchema)
    def post(self, body: dict[str, Any], user_id: int) -> dict[str, Any]:
        """Make an API key for a user. It is shown once."""
        made = tokens.create(user_id, at=clock.now(), **body)
        return _with_key(made.row, schemas.KeySchema, made)


@blueprint.route("/<id:user_id>/keys/<id:key_id>/")
class Key(MethodView):
    @admin_route
    @blueprint.response(204)
    def delete(self, user_id: int, key_id: int) -> None:
        """Make a user's API key worthless."""
        tokens.remove(user_id, key_id)


def _with_key(row: UserProfile | APIKey, schema: type[Schema], made: tokens.NewKey) -> dict[str, Any]:
    """What a schema shows of a row, and the key beside it."""
    return {**{name: getattr(row, name) for name in schema().fields}, "key": made.key}
