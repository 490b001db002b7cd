"""People and agents: the first one, the others, and what they may be turned into."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from pipelit import clock
from pipelit.errors import AlreadyExists, AlreadySetUp, LastAdmin, NotFound, Unauthorized, WrongState
from pipelit.extensions import db, transaction
from pipelit.models import APIKey, UserProfile
from pipelit.models.user import Role
from pipelit.services import passwords, preconditions, tokens
from pipelit.services.paging import Listing, Page, listing
from pipelit.services.preconditions import Precondition


def needs_setup() -> bool:
    """Whether nobody is here yet."""
    return not db.session.scalar(select(func.count()).select_from(UserProfile))


def set_up(username: str, password: str, at: datetime) -> str:
    """Make the first administrator, once; the key of their first session."""
    if not needs_setup():
        raise AlreadySetUp("There is an administrator already. Sign in.")
    password_hash = passwords.make_hash(password)
    with transaction() as session:
        _one_at_a_time(session)
        if session.scalar(select(func.count()).select_from(UserProfile)):
            raise AlreadySetUp("There is an administrator already. Sign in.")
        user = UserProfile(username=username, password_hash=password_hash, role=Role.ADMIN)
        session.add(user)
        session.flush()
        return tokens.issue(session, user.id, tokens.SESSION, at, at + tokens.SESSION_LASTS).key


def create(username: str, password: str, role: str = Role.NORMAL) -> UserProfile:
    """Make a user who signs in with a password."""
    password_hash = passwords.make_hash(password)
    return _add(UserProfile(username=username, password_hash=password_hash, role=role))


def create_agent(username: str, role: str, at: datetime) -> tuple[UserProfile, tokens.NewKey]:
    """Make a user without a password, and the one key it begins with."""
    try:
        with transaction() as session:
            agent = UserProfile(username=username, role=role, is_agent=True)
            session.add(agent)
            session.flush()
            return agent, tokens.issue(session, agent.id, "agent", at)
    except IntegrityError:
        raise _taken(username) from None


def sign_in(username: str, password: str) -> UserProfile:
    """The user whose name and password these are; unknown names take as long as wrong passwords."""
    user = db.session.scalar(select(UserProfile).where(UserProfile.username == username))
    stored = None if user is None else user.password_hash
    # The connection goes back before the slow part: a burst of sign-ins must not use up the pool.
    db.session.rollback()
    if not passwords.matches(password, stored) or user is None:
        raise Unauthorized("The username or the password is wrong.")
    return user


def get(user_id: int) -> UserProfile:
    """A user by number."""
    return _found(db.session.get(UserProfile, user_id))


def everybody(page: Page) -> Listing[UserProfile]:
    """All users, in the order they came."""
    return listing(select(UserProfile).order_by(UserProfile.id), page)


def change(user_id: int, changes: Mapping[str, object], check: Precondition = preconditions.none) -> UserProfile:
    """Change name, password or role of a user, or take a second factor away that was lost.

    A new password ends the user's sessions.
    """
    wanted = dict(changes)
    password = wanted.pop("password", None)
    password_hash = passwords.make_hash(str(password)) if password is not None else None
    try:
        with transaction() as session:
            user = _found(session.get(UserProfile, user_id, with_for_update=True))
            check(user)
            if wanted.get("role", user.role) != Role.ADMIN:
                _keep_an_admin(session, user)
            if wanted.pop("mfa_enabled", None) is False:
                user.mfa_enabled, user.totp_secret, user.totp_last_step = False, None, None
            if password_hash is not None:
                _set_password(session, user, password_hash)
            for name, value in wanted.items():
                setattr(user, name, value)
            user.updated_at = clock.now()
            return user
    except IntegrityError:
        raise _taken(str(wanted.get("username"))) from None


def remove(user_id: int, check: Precondition = preconditions.none) -> None:
    """Remove a user and their keys; workflows they own stay, for administrators."""
    with transaction() as session:
        user = _found(session.get(UserProfile, user_id, with_for_update=True))
        check(user)
        _keep_an_admin(session, user)
        session.delete(user)


def _add(user: UserProfile) -> UserProfile:
    try:
        with transaction() as session:
            session.add(user)
            session.flush()
            return user
    except IntegrityError:
        raise _taken(user.username) from None


def _set_password(session: Session, user: UserProfile, password_hash: str) -> None:
    if user.is_agent:
        raise WrongState("An agent has no password; it has API keys only.")
    user.password_hash = password_hash
    session.execute(delete(APIKey).where(APIKey.user_id == user.id, APIKey.name == tokens.SESSION))


def _keep_an_admin(session: Session, user: UserProfile) -> None:
    """Refuse what would leave nobody in charge. The rows are locked, so that two such changes come one by one."""
    in_charge = select(UserProfile.id).where(UserProfile.role == Role.ADMIN, UserProfile.is_agent.is_(False))
    admins = session.scalars(in_charge.order_by(UserProfile.id).with_for_update()).all()
    if list(admins) == [user.id]:
        raise LastAdmin("This is the last administrator. Make somebody else one first.")


def _one_at_a_time(session: Session) -> None:
    """Two first users at once: the second waits here, then finds the first. SQLite has one writer anyway."""
    if session.connection().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE user_profiles IN SHARE ROW EXCLUSIVE MODE"))


def _found(user: UserProfile | None) -> UserProfile:
    if user is None:
        raise NotFound("There is no such user.")
    return user


def _taken(username: str) -> AlreadyExists:
    return AlreadyExists(f"There is a user named {username!r} already.")
