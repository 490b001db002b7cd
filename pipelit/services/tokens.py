"""API keys: made, shown once, recognised by their hash, forgotten."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from pipelit.errors import Invalid, NotFound, Unauthorized
from pipelit.extensions import db, transaction
from pipelit.models import APIKey, UserProfile
from pipelit.services.paging import Listing, Page, listing

log = structlog.get_logger(__name__)

MARK = "pl_"
SHOWN = 10
SESSION = "session"
SESSION_LASTS = timedelta(days=30)
USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key on the one occasion that it can be read."""

    row: APIKey
    key: str


def issue(session: Session, user_id: int, name: str, at: datetime, expires_at: datetime | None = None) -> NewKey:
    """Make a key within a transaction of the caller."""
    key = MARK + secrets.token_urlsafe(32)
    row = APIKey(
        user_id=user_id, name=name, prefix=key[:SHOWN], key_hash=_hash(key), created_at=at, expires_at=expires_at
    )
    session.add(row)
    session.flush()
    return NewKey(row, key)


def create(user_id: int, name: str, at: datetime, expires_at: datetime | None = None) -> NewKey:
    """Give a user another key."""
    if expires_at is not None and expires_at <= at:
        raise Invalid("expires_at: Must be in the future.", {"expires_at": ["Must be in the future."]})
    with transaction() as session:
        if session.get(UserProfile, user_id) is None:
            raise NotFound("There is no such user.")
        return issue(session, user_id, name, at, expires_at)


def open_session(user_id: int, at: datetime) -> str:
    """The key of a new session, after somebody proved who they are; sessions that ended are removed."""
    with transaction() as session:
        over = APIKey.user_id == user_id, APIKey.name == SESSION, APIKey.expires_at <= at
        session.execute(delete(APIKey).where(*over))
        return issue(session, user_id, SESSION, at, at + SESSION_LASTS).key


def of_user(user_id: int, page: Page) -> Listing[APIKey]:
    """A user's keys, newest first."""
    if db.session.get(UserProfile, user_id) is None:
        raise NotFound("There is no such user.")
    return listing(select(APIKey).where(APIKey.user_id == user_id).order_by(APIKey.id.desc()), page)


def remove(user_id: int, key_id: int) -> None:
    """Make a user's key worthless."""
    with transaction() as session:
        row = session.scalar(select(APIKey).where(APIKey.id == key_id, APIKey.user_id == user_id))
        if row is None:
            raise NotFound("There is no such key.")
        session.delete(row)


def user_of(key: str, at: datetime) -> UserProfile:
    """Whose key this is, as a detached row; `Unauthorized` if it is nobody's or has expired."""
    row = db.session.scalar(select(APIKey).where(APIKey.key_hash == _hash(key)))
    if row is None:
        raise Unauthorized("This API key is not known.")
    if row.expires_at is not None and row.expires_at <= at:
        raise Unauthorized("This API key has expired.")
    user = row.user
    db.session.expunge_all()
    if row.last_used_at is None or row.last_used_at <= at - USE_NOTED_EVERY:
        _note_use(row.id, at)
    return user


def remove_expired(at: datetime, after: timedelta = timedelta(days=30)) -> int:
    """Remove the keys that expired some time ago; how many there were."""
    with transaction() as session:
        gone = session.scalars(select(APIKey.id).where(APIKey.expires_at < at - after)).all()
        session.execute(delete(APIKey).where(APIKey.id.in_(gone)))
        return len(gone)


def _note_use(key_id: int, at: datetime) -> None:
    unnoted = or_(APIKey.last_used_at.is_(None), APIKey.last_used_at <= at - USE_NOTED_EVERY)
    try:
        with transaction() as session:
            session.execute(update(APIKey).where(APIKey.id == key_id, unnoted).values(last_used_at=at))
    except OperationalError as error:
        # A busy database is no reason to refuse a reader; the next request notes the use.
        log.warning("key_use_not_noted", error=str(error.orig))


def _hash(key: str) -> str:
    """A plain hash is enough: a key holds 256 random bits, which nobody guesses however fast the hash is."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
