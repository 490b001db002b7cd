"""Signing in, the second factor, users and their keys."""

from marshmallow import validate

from pipelit.api.schemas import fields
from pipelit.api.schemas.base import Schema
from pipelit.models.user import Role

USERNAME = fields.Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$", error="Letters, digits and . _ @ + - only, and a letter or digit first."
)
A_USERNAME = [validate.Length(1, 150), USERNAME]
A_PASSWORD = validate.Length(8, 128)
A_ROLE = validate.OneOf([role.value for role in Role])
A_CODE = fields.Pattern(r"^[0-9]{6}$", error="Six digits.")


class SetupStatusSchema(Schema):
    """Whether the first administrator has yet to be made."""

    needs_setup = fields.Boolean(required=True)


class SetupArguments(Schema):
    """The first administrator."""

    username = fields.String(required=True, validate=A_USERNAME)
    password = fields.String(required=True, validate=A_PASSWORD)


class SignInArguments(Schema):
    """A name and a password."""

    username = fields.String(required=True, validate=validate.Length(1, 150))
    password = fields.String(required=True, validate=validate.Length(1, 128))


class SecondStepArguments(SignInArguments):
    """A name, a password and the code of the moment."""

    code = fields.String(required=True, validate=A_CODE)


class CodeArguments(Schema):
    """The code of the moment."""

    code = fields.String(required=True, validate=A_CODE)


class SessionSchema(Schema):
    """The key of a session, or the demand for a code: then `key` is empty."""

    key = fields.String(required=True)
    requires_mfa = fields.Boolean(required=True)


class SessionKeySchema(Schema):
    """The key of a session."""

    key = fields.String(required=True)
    requires_mfa = fields.Boolean(required=True)


class EnrolmentSchema(Schema):
    """What an authenticator needs."""

    secret = fields.String(required=True)
    provisioning_uri = fields.String(required=True, metadata={"description": "What a QR code for it holds."})


class MfaStatusSchema(Schema):
    """Whether a code is asked for."""

    mfa_enabled = fields.Boolean(required=True)


class MeSchema(Schema):
    """The caller."""

    id = fields.Id(required=True)
    username = fields.String(required=True)
    role = fields.String(required=True, validate=A_ROLE)
    is_agent = fields.Boolean(required=True)
    mfa_enabled = fields.Boolean(required=True)


class UserSchema(MeSchema):
    """A person or an agent."""

    created_at = fields.UtcTime(required=True)
    updated_at = fields.UtcTime(required=True)


class UserArguments(SetupArguments):
    """A user who signs in with a password."""

    role = fields.String(validate=A_ROLE, load_default=Role.NORMAL.value)


class UserChanges(Schema):
    """What is to be different."""

    username = fields.String(validate=A_USERNAME)
    password = fields.String(validate=A_PASSWORD, metadata={"description": "Ends the user's sessions."})
    role = fields.String(validate=A_ROLE)
    mfa_enabled = fields.Boolean(
        validate=validate.Equal(False),
        metadata={"description": "`false` takes away a second factor that was lost.", "enum": [False]},
    )


class AgentArguments(Schema):
    """A user without a password."""

    username = fields.String(required=True, validate=A_USERNAME)
    role = fields.String(validate=A_ROLE, load_default=Role.NORMAL.value)


class KeySchema(Schema):
    """An API key, as it can be shown ever after: by its beginning."""

    id = fields.Id(required=True)
    name = fields.String(required=True)
    prefix = fields.String(required=True, metadata={"description": "The first characters of the key."})
    created_at = fields.UtcTime(required=True)
    last_used_at = fields.UtcTime(required=True, allow_none=True, metadata={"description": "Exact to a minute."})
    expires_at = fields.UtcTime(required=True, allow_none=True)


class NewKeySchema(KeySchema):
    """An API key, on the one occasion that it is shown."""

    key = fields.String(required=True)


class AgentSchema(UserSchema):
    """An agent, with its first key on the one occasion that it is shown."""

    key = fields.String(required=True)


class KeyArguments(Schema):
    """A name to tell keys apart, and when the key stops to work."""

    name = fields.String(required=True, validate=fields.a_name(100))
    expires_at = fields.UtcTime(allow_none=True, load_default=None)
