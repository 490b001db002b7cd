"""API keys, beside what the stories of the API tell of them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from flask import Flask
from sqlalchemy import make_url, select, text

from pipelit.errors import NotFound, Unauthorized
from pipelit.extensions import db, transaction
from pipelit.models import APIKey, UserProfile
from pipelit.services import mfa, tokens

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def ada(app: Flask) -> Iterator[UserProfile]:
    with app.app_context():
        with transaction() as session:
            user = UserProfile(username="ada")
            session.add(user)
        yield user


@contextmanager
def busy(url: str) -> Iterator[None]:
    """Another process writes to the keys, and whoever waits for it gives up after 50 ms."""
    parts = make_url(url)
    if parts.drivername == "sqlite":
        db.session.execute(text("PRAGMA busy_timeout = 50"))
        db.session.rollback()
        with closing(sqlite3.connect(str(parts.database), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    db.session.execute(text("SET SESSION lock_timeout = '50ms'"))
    db.session.commit()
    with psycopg.connect(url.replace("+psycopg", "", 1)) as other:
        other.execute("SELECT * FROM api_keys FOR UPDATE")
        yield


def test_a_busy_database_does_not_keep_a_reader_out(ada: UserProfile, database_url: str) -> None:
    key = tokens.create(ada.id, "test", AT).key

    with busy(database_url):
        assert tokens.user_of(key, AT).username == "ada"

    assert db.session.scalars(select(APIKey.last_used_at)).one() is None


def test_keys_that_expired_long_ago_are_removed(ada: UserProfile) -> None:
    tokens.create(ada.id, "short", AT, AT + timedelta(days=1))
    key = tokens.create(ada.id, "for ever", AT).key

    assert tokens.remove_expired(AT + timedelta(days=30)) == 0
    assert tokens.remove_expired(AT + timedelta(days=32)) == 1
    assert tokens.user_of(key, AT + timedelta(days=32)).username == "ada"


def test_a_key_works_until_the_moment_it_expires(ada: UserProfile) -> None:
    key = tokens.create(ada.id, "short", AT, AT + timedelta(days=1)).key

    assert tokens.user_of(key, AT + timedelta(days=1, microseconds=-1)).username == "ada"
    with pytest.raises(Unauthorized):
        tokens.user_of(key, AT + timedelta(days=1))


def test_somebody_who_is_gone_gets_no_secret(ada: UserProfile) -> None:
    with pytest.raises(NotFound):
        mfa.begin(ada.id + 1)
