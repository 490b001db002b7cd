"""The first administrator, signing in, and the second factor."""

from flask.views import MethodView

from pipelit import clock
from pipelit.api import limits
from pipelit.api.auth import current_user, open_route
from pipelit.api.blueprint import Blueprint
from pipelit.api.schemas import account as schemas
from pipelit.models import UserProfile
from pipelit.services import mfa, tokens, users

blueprint = Blueprint("auth", "/auth", "The first administrator, signing in, and the second factor.")

ADA = {"username": "ada", "password": "correct horse battery"}
KEY = {"key": "pl_q1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h6j7k8l9z0x1c", "requires_mfa": False}


@blueprint.route("/setup-status/")
class SetupStatus(MethodView):
    @open_route
    @blueprint.response(200, schemas.SetupStatusSchema, example={"needs_setup": True})
    def get(self) -> dict[str, bool]:
        """Whether the first administrator has yet to be made."""
        return {"needs_setup": users.needs_setup()}


@blueprint.route("/setup/")
class Setup(MethodView):
    @open_route
    @blueprint.arguments(schemas.SetupArguments, example=ADA)
    @blueprint.response(201, schemas.SessionKeySchema, example=KEY)
    def post(self, body: dict[str, str]) -> dict[str, object]:
        """Make the first administrator, once."""
        return {"key": users.set_up(body["username"], body["password"], clock.now()), "requires_mfa": False}


@blueprint.route("/token/")
class Token(MethodView):
    @open_route
    @blueprint.arguments(schemas.SignInArguments, example=ADA)
    @blueprint.response(200, schemas.SessionSchema, example=KEY)
    @blueprint.refusal(401)
    def post(self, body: dict[str, str]) -> dict[str, object]:
        """Sign in with a password.

        With a second factor the key is empty; `/auth/mfa/login-verify/` gives it. A key expires after 30 days.
        """
        with limits.guessing("password", body["username"]):
            user = users.sign_in(**body)
        key = "" if user.mfa_enabled else tokens.open_session(user.id, clock.now())
        return {"key": key, "requires_mfa": user.mfa_enabled}


@blueprint.route("/me/")
class Me(MethodView):
    @blueprint.response(
        200,
        schemas.MeSchema,
        example={"id": 1, "username": "ada", "role": "admin", "is_agent": False, "mfa_enabled": False},
    )
    def get(self) -> UserProfile:
        """Who you are."""
        return current_user()


@blueprint.route("/mfa/status/")
class MfaStatus(MethodView):
    @blueprint.response(200, schemas.MfaStatusSchema)
    def get(self) -> UserProfile:
        """Whether you sign in with a code."""
        return current_user()


@blueprint.route("/mfa/setup/")
class MfaSetup(MethodView):
    @blueprint.response(200, schemas.EnrolmentSchema)
    def post(self) -> mfa.Enrolment:
        """Get a secret for your authenticator; `verify` switches the second factor on."""
        return mfa.begin(current_user().id)


@blueprint.route("/mfa/verify/")
class MfaVerify(MethodView):
    @blueprint.arguments(schemas.CodeArguments, example={"code": "123456"})
    @blueprint.response(200, schemas.MfaStatusSchema)
    def post(self, body: dict[str, str]) -> dict[str, bool]:
        """Switch the second factor on with a first code."""
        with limits.guessing("code", current_user().username):
            mfa.confirm(current_user().id, body["code"], clock.now())
        return {"mfa_enabled": True}


@blueprint.route("/mfa/disable/")
class MfaDisable(MethodView):
    @blueprint.arguments(schemas.CodeArguments, example={"code": "123456"})
    @blueprint.response(200, schemas.MfaStatusSchema)
    def post(self, body: dict[str, str]) -> dict[str, bool]:
        """Switch the second factor off with a last code."""
        with limits.guessing("code", current_user().username):
            mfa.disable(current_user().id, body["code"], clock.now())
        return {"mfa_enabled": False}


@blueprint.route("/mfa/login-verify/")
class MfaLoginVerify(MethodView):
    @open_route
    @blueprint.arguments(schemas.SecondStepArguments, example=ADA | {"code": "123456"})
    @blueprint.response(200, schemas.SessionKeySchema, example=KEY)
    @blueprint.refusal(401)
    def post(self, body: dict[str, str]) -> dict[str, object]:
        """Sign in with a password and the code of the moment."""
        with limits.guessing("code", body["username"]):
            user = users.sign_in(body["username"], body["password"])
            mfa.sign_in(user, body["code"], clock.now())
        return {"key": tokens.open_session(user.id, clock.now()), "requires_mfa": False}
