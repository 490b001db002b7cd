"""The second factor: a six-digit code of the moment, from an authenticator that shares a secret with us."""

import hmac
from dataclasses import dataclass
from datetime import datetime

import pyotp
from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from pipelit.errors import Forbidden, Invalid, NotFound, Unauthorized, WrongState
from pipelit.extensions import transaction
from pipelit.models import UserProfile

ISSUER = "Pipelit"
STEP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator needs: as text to type, and as the URI that a QR code holds."""

    secret: str
    provisioning_uri: str


def begin(user_id: int) -> Enrolment:
    """Give a user a secret. It counts from the first code that `confirm` accepts."""
    secret = pyotp.random_base32()
    with transaction() as session:
        user = _locked(session, user_id)
        if user.is_agent:
            raise Forbidden("An agent signs in with its key only; there is no second factor to it.")
        if user.mfa_enabled:
            raise WrongState("The second factor is on already. Switch it off first.")
        user.totp_secret, user.totp_last_step = secret, None
        return Enrolment(secret, pyotp.TOTP(secret).provisioning_uri(name=user.username, issuer_name=ISSUER))


def confirm(user_id: int, code: str, at: datetime) -> None:
    """Switch the second factor on, with a code that shows the authenticator has the secret."""
    with transaction() as session:
        user = _locked(session, user_id)
        if user.mfa_enabled or user.totp_secret is None:
            raise WrongState("Ask for a secret first." if not user.mfa_enabled else "The second factor is on already.")
        _demand(session, user, code, at)
        user.mfa_enabled = True


def disable(user_id: int, code: str, at: datetime) -> None:
    """Switch the second factor off, with one last code."""
    with transaction() as session:
        user = _locked(session, user_id)
        if not user.mfa_enabled:
            raise WrongState("The second factor is not on.")
        _demand(session, user, code, at)
        user.mfa_enabled, user.totp_secret, user.totp_last_step = False, None, None


def sign_in(user: UserProfile, code: str, at: datetime) -> None:
    """The second step of signing in, after the password was right; `Unauthorized` if the code is not."""
    if not user.mfa_enabled:
        raise WrongState("This user has no second factor: the password alone signs in.")
    with transaction() as session:
        if not _spend(session, _locked(session, user.id), code, at):
            raise Unauthorized("The code is wrong, or was used before.")


def _demand(session: Session, user: UserProfile, code: str, at: datetime) -> None:
    if not _spend(session, user, code, at):
        message = "Is wrong, or was used before."
        raise Invalid(f"code: {message}", {"code": [message]})


def _spend(session: Session, user: UserProfile, code: str, at: datetime) -> bool:
    """Whether a code is right now, a step earlier or a step later; a right one is never right again."""
    step = _step_of(user.totp_secret or "", code, at)
    if step is None:
        return False
    unspent = or_(UserProfile.totp_last_step.is_(None), UserProfile.totp_last_step < step)
    claimed = session.scalar(
        update(UserProfile)
        .where(UserProfile.id == user.id, unspent)
        .values(totp_last_step=step)
        .returning(UserProfile.id)
    )
    return claimed is not None


def _step_of(secret: str, code: str, at: datetime) -> int | None:
    present = int(at.timestamp()) // STEP_SECONDS
    generator = pyotp.TOTP(secret)
    for step in (present - 1, present, present + 1):
        if hmac.compare_digest(generator.generate_otp(step), code):
            return step
    return None


def _locked(session: Session, user_id: int) -> UserProfile:
    user = session.get(UserProfile, user_id, with_for_update=True)
    if user is None:
        raise NotFound("There is no such user.")
    return user
