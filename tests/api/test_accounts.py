"""From an empty installation to a session, with and without a second factor."""

import threading
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from flask import Flask
from sqlalchemy import select, update

from pipelit import clock
from pipelit.extensions import db, transaction
from pipelit.models import APIKey, UserProfile
from pipelit.services import tokens
from tests.support.callers import Caller, Person

PASSWORD = "correct horse battery"
ADA = {"username": "ada", "password": PASSWORD}


@pytest.fixture
def ada(anonymous: Caller) -> Caller:
    """The first administrator, signed in by the setup itself."""
    key = anonymous.post("/auth/setup/", ADA).json["key"]
    return Caller(anonymous.client, key, "ada")


def test_the_first_visitor_becomes_the_administrator(anonymous: Caller) -> None:
    assert anonymous.get("/auth/setup-status/").json == {"needs_setup": True}

    answer = anonymous.post("/auth/setup/", ADA)

    assert answer.status_code == 201
    assert answer.json["requires_mfa"] is False
    assert anonymous.get("/auth/setup-status/").json == {"needs_setup": False}
    me = Caller(anonymous.client, answer.json["key"]).get("/auth/me/").json
    assert me == {"id": me["id"], "username": "ada", "role": "admin", "is_agent": False, "mfa_enabled": False}


def test_setup_happens_once(ada: Caller, anonymous: Caller) -> None:
    answer = anonymous.post("/auth/setup/", {"username": "eve", "password": PASSWORD})

    assert (answer.status_code, answer.json["code"]) == (409, "already_set_up")


def test_of_two_first_visitors_at_once_one_wins(app: Flask) -> None:
    answers: list[int] = []

    def set_up(name: str) -> None:
        caller = Caller(app.test_client())
        answers.append(caller.post("/auth/setup/", {"username": name, "password": PASSWORD}).status_code)

    rivals = [threading.Thread(target=set_up, args=(f"user{n}",)) for n in range(4)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()

    assert sorted(answers) == [201, 409, 409, 409]
    with app.app_context():
        assert len(db.session.scalars(select(UserProfile)).all()) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "ada"}, "password"),
        ({"username": "ada", "password": "short"}, "password"),
        ({"username": "", "password": PASSWORD}, "username"),
        ({"username": "ada\n", "password": PASSWORD}, "username"),
        ({"username": "ada lovelace", "password": PASSWORD}, "username"),
        ({"username": 7, "password": PASSWORD}, "username"),
        ({**ADA, "role": "admin"}, "role"),
    ],
)
def test_an_unfit_first_administrator_is_refused_by_field(anonymous: Caller, body: dict[str, Any], field: str) -> None:
    answer = anonymous.post("/auth/setup/", body)

    assert answer.status_code == 422
    assert list(answer.json["errors"]) == [field]
    assert anonymous.get("/auth/setup-status/").json == {"needs_setup": True}


def test_signing_in_gives_a_fresh_key_that_expires(app: Flask, ada: Caller, anonymous: Caller) -> None:
    answer = anonymous.post("/auth/token/", ADA)

    key = answer.json["key"]
    assert key.startswith("pl_")
    assert key != ada.key
    assert ada.get("/auth/me/").status_code == 200, "the first session goes on"
    with app.app_context():
        row = db.session.scalars(select(APIKey).order_by(APIKey.id.desc())).first()
        assert row is not None
        assert row.name == "session"
        assert row.expires_at is not None
        assert timedelta(days=29) < row.expires_at - clock.now() < timedelta(days=31)


def test_sessions_that_ended_are_removed_at_the_next_sign_in(app: Flask, ada: Caller, anonymous: Caller) -> None:
    with app.app_context(), transaction() as session:
        session.execute(update(APIKey).values(expires_at=clock.now() - timedelta(seconds=1)))

    anonymous.post("/auth/token/", ADA)

    with app.app_context():
        assert len(db.session.scalars(select(APIKey)).all()) == 1


@pytest.mark.parametrize("body", [{**ADA, "password": "wrong password"}, {"username": "nobody", "password": PASSWORD}])
def test_a_wrong_name_and_a_wrong_password_look_the_same(ada: Caller, anonymous: Caller, body: dict[str, str]) -> None:
    answer = anonymous.post("/auth/token/", body)

    assert answer.status_code == 401
    assert answer.json["detail"] == "The username or the password is wrong."
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pipelit"'


def test_an_agent_cannot_sign_in_with_a_password(admin: Caller, anonymous: Caller) -> None:
    admin.post("/users/agents/", {"username": "robot"})

    for password in ("", "None", PASSWORD):
        assert anonymous.post("/auth/token/", {"username": "robot", "password": password}).status_code in (401, 422)


def test_guessing_a_password_is_slowed_down_and_a_right_one_forgets_the_mistakes(
    ada: Caller, anonymous: Caller
) -> None:
    wrong = {**ADA, "password": "wrong password"}
    for _ in range(9):
        assert anonymous.post("/auth/token/", wrong).status_code == 401
    assert anonymous.post("/auth/token/", ADA).status_code == 200
    for _ in range(10):
        assert anonymous.post("/auth/token/", wrong).status_code == 401

    answer = anonymous.post("/auth/token/", ADA)

    assert (answer.status_code, answer.json["code"]) == (429, "too_many_requests")
    assert 1 <= int(answer.headers["Retry-After"]) <= 61


def test_trying_one_password_on_many_names_is_slowed_down(anonymous: Caller) -> None:
    statuses = {anonymous.post("/auth/token/", {"username": f"u{n}", "password": "x"}).status_code for n in range(61)}

    assert statuses == {401, 429}


class Authenticator:
    """A person's phone, whose clock can be set."""

    def __init__(self, secret: str) -> None:
        self.codes = pyotp.TOTP(secret)

    def code(self, steps_from_now: int = 0) -> str:
        return self.codes.generate_otp(int(clock.now().timestamp()) // 30 + steps_from_now)


@pytest.fixture
def phone(ada: Caller) -> Authenticator:
    """Ada's, after she switched the second factor on with the code of the step before this one."""
    phone = Authenticator(ada.post("/auth/mfa/setup/").json["secret"])
    assert ada.post("/auth/mfa/verify/", {"code": phone.code(-1)}).json == {"mfa_enabled": True}
    return phone


def test_a_second_factor_is_asked_for_once_it_is_on(ada: Caller, anonymous: Caller, phone: Authenticator) -> None:
    assert ada.get("/auth/mfa/status/").json == {"mfa_enabled": True}
    assert anonymous.post("/auth/token/", ADA).json == {"key": "", "requires_mfa": True}

    answer = anonymous.post("/auth/mfa/login-verify/", {**ADA, "code": phone.code()})

    assert answer.json["requires_mfa"] is False
    assert Caller(anonymous.client, answer.json["key"]).get("/auth/me/").json["mfa_enabled"] is True


def test_a_code_works_once(ada: Caller, anonymous: Caller, phone: Authenticator) -> None:
    code = phone.code()
    assert anonymous.post("/auth/mfa/login-verify/", {**ADA, "code": code}).status_code == 200

    assert anonymous.post("/auth/mfa/login-verify/", {**ADA, "code": code}).status_code == 401
    assert anonymous.post("/auth/mfa/login-verify/", {**ADA, "code": phone.code(-1)}).status_code == 401


def test_of_two_uses_of_a_code_at_once_one_wins(app: Flask, ada: Caller, phone: Authenticator) -> None:
    code, answers = phone.code(), []

    def sign_in() -> None:
        body = {**ADA, "code": code}
        answers.append(Caller(app.test_client()).post("/auth/mfa/login-verify/", body).status_code)

    rivals = [threading.Thread(target=sign_in) for _ in range(3)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()

    assert sorted(answers) == [200, 401, 401]


def test_the_code_alone_does_not_sign_in(ada: Caller, anonymous: Caller, phone: Authenticator) -> None:
    answer = anonymous.post("/auth/mfa/login-verify/", {**ADA, "password": "wrong password", "code": phone.code()})

    assert answer.status_code == 401


def test_a_right_password_does_not_buy_new_tries_at_the_code(
    ada: Caller, anonymous: Caller, phone: Authenticator
) -> None:
    for _ in range(10):
        anonymous.post("/auth/token/", ADA)
        anonymous.post("/auth/mfa/login-verify/", {**ADA, "code": "000000"})

    answer = anonymous.post("/auth/mfa/login-verify/", {**ADA, "code": phone.code()})

    assert answer.status_code == 429


def test_switching_the_second_factor_off_takes_a_code(ada: Caller, anonymous: Caller, phone: Authenticator) -> None:
    wrong = ada.post("/auth/mfa/disable/", {"code": "000000"})
    assert (wrong.status_code, list(wrong.json["errors"])) == (422, ["code"])

    assert ada.post("/auth/mfa/disable/", {"code": phone.code()}).json == {"mfa_enabled": False}
    assert anonymous.post("/auth/token/", ADA).json["requires_mfa"] is False


def test_the_second_factor_changes_state_in_one_direction_at_a_time(ada: Caller, anonymous: Caller) -> None:
    assert ada.post("/auth/mfa/verify/", {"code": "123456"}).status_code == 409, "no secret yet"
    assert ada.post("/auth/mfa/disable/", {"code": "123456"}).status_code == 409, "not on"
    assert anonymous.post("/auth/mfa/login-verify/", {**ADA, "code": "123456"}).status_code == 409
    enrolment = ada.post("/auth/mfa/setup/").json
    assert enrolment["provisioning_uri"].startswith("otpauth://totp/Pipelit:ada?secret=")
    phone = Authenticator(enrolment["secret"])
    ada.post("/auth/mfa/verify/", {"code": phone.code()})
    assert ada.post("/auth/mfa/setup/").status_code == 409, "on already"
    assert ada.post("/auth/mfa/verify/", {"code": phone.code(1)}).status_code == 409, "on already"


def test_an_agent_has_no_second_factor(app: Flask, admin: Caller) -> None:
    key = admin.post("/users/agents/", {"username": "robot"}).json["key"]

    answer = Caller(app.test_client(), key).post("/auth/mfa/setup/")

    assert answer.status_code == 403


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer pl_\xff\xfe"},
        {"Authorization": "Bearer null"},
        {"Authorization": "Basic YWRhOmFkYQ=="},
        {"X-API-Key": "{key}"},
        {"Authorization": "Token {key}"},
        {"Cookie": "key={key}"},
    ],
)
def test_only_a_known_key_in_the_one_header_lets_in(admin: Caller, anonymous: Caller, header: dict[str, str]) -> None:
    headers = {name: value.format(key=admin.key) for name, value in header.items()}

    answer = anonymous.get("/auth/me/", headers=headers)

    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_expired_key_is_refused(app: Flask, normal: Caller) -> None:
    with app.app_context(), transaction() as session:
        session.execute(update(APIKey).values(expires_at=clock.now()))

    answer = normal.get("/auth/me/")

    assert (answer.status_code, answer.json["detail"]) == (401, "This API key has expired.")


def test_the_use_of_a_key_is_noted_at_most_once_a_minute(app: Flask, normal: Caller) -> None:
    at = clock.now()
    with app.app_context():
        tokens.user_of(normal.key, at)
        tokens.user_of(normal.key, at + timedelta(seconds=59))
        first = db.session.scalars(select(APIKey.last_used_at)).one()
        tokens.user_of(normal.key, at + timedelta(seconds=60))
        db.session.rollback()
        second = db.session.scalars(select(APIKey.last_used_at)).one()

    assert (first, second) == (at, at + timedelta(seconds=60))


def test_a_key_is_kept_as_a_hash_only(app: Flask, person: Person) -> None:
    caller = person("hopper")

    with app.app_context():
        row = db.session.scalars(select(APIKey)).one()

    assert caller.key not in (row.key_hash, row.prefix, row.name)
    assert caller.key.startswith(row.prefix)
    assert len(row.prefix) == 10
