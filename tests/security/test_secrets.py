"""Passwords, keys and codes reach neither the log, nor the database in the clear, nor any answer but the first."""

import io
import logging
from collections.abc import Iterator

import pyotp
import pytest
import structlog
from flask import Flask
from sqlalchemy import text

from pipelit import telemetry
from pipelit.api.auth import open_route
from pipelit.config import Settings
from pipelit.extensions import db, transaction
from pipelit.models import Base, UserProfile
from tests.support.callers import Caller

PASSWORD = "canary-in-the-coal-mine"
ADA = {"username": "ada", "password": PASSWORD}


@pytest.fixture
def log(app: Flask, settings: Settings) -> Iterator[io.StringIO]:
    """What the server would write to its log, down to the least severe line."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure(settings, stream)
    root.setLevel(logging.DEBUG)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_canary_is_seen_nowhere(app: Flask, anonymous: Caller, log: io.StringIO) -> None:
    first = anonymous.post("/auth/setup/", ADA).json["key"]
    ada = Caller(app.test_client(), first)
    made = ada.post("/users/me/keys/", {"name": "deploy"}, headers={"Idempotency-Key": "once"}).json["key"]
    secret = ada.post("/auth/mfa/setup/").json["secret"]
    ada.post("/auth/mfa/verify/", {"code": pyotp.TOTP(secret).now()})
    anonymous.post("/auth/token/", ADA)
    anonymous.post("/auth/token/", {**ADA, "password": PASSWORD + "x"})
    anonymous.post("/users/", ADA, headers={"Authorization": f"Bearer {made}x"})
    later = ada.get("/users/me/keys/").text + ada.get("/users/").text + ada.get("/auth/me/").text

    kept = everything(app)
    for canary in (PASSWORD, first, made, secret):
        assert canary not in log.getvalue()
        assert canary not in kept
        assert canary not in later


def test_an_error_of_the_database_does_not_log_what_it_was_given(app: Flask, log: io.StringIO) -> None:
    def crash() -> None:
        with transaction() as session:
            session.add_all(UserProfile(username="ada", password_hash=PASSWORD) for _ in range(2))

    app.add_url_rule("/crash", "crash", open_route(crash))

    answer = app.test_client().get("/crash")

    assert answer.status_code == 500
    assert "IntegrityError" in log.getvalue()
    assert PASSWORD not in log.getvalue() + answer.text


def everything(app: Flask) -> str:
    """All that is stored, as it is stored."""
    with app.app_context():
        rows = [db.session.execute(text(f"SELECT * FROM {name}")).all() for name in Base.metadata.tables]
        return str(rows)
