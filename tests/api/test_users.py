"""Administrators look after users; everybody looks after their own keys."""

import threading
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from pipelit import clock
from pipelit.api.idempotency import idempotent
from pipelit.extensions import db
from pipelit.models import IdempotencyRecord, UserProfile
from tests.support.callers import Caller, Person

GRACE = {"username": "grace", "password": "correct horse battery"}


def test_an_administrator_makes_finds_changes_and_removes_a_user(admin: Caller, anonymous: Caller) -> None:
    made = admin.post("/users/", GRACE)
    assert made.status_code == 201
    assert (made.json["username"], made.json["role"], made.json["is_agent"]) == ("grace", "normal", False)
    address = f"/users/{made.json['id']}/"
    assert admin.get(address).json == made.json
    assert [user["username"] for user in admin.get("/users/").json["items"]] == ["ada", "grace"]
    assert anonymous.post("/auth/token/", GRACE).status_code == 200

    changed = admin.patch(address, {"role": "admin", "username": "hopper"})

    assert (changed.json["username"], changed.json["role"]) == ("hopper", "admin")
    assert admin.delete(address).status_code == 204
    assert admin.get(address).status_code == 404
    assert admin.get("/users/").json["total"] == 1


def test_a_name_is_taken_once(admin: Caller, normal: Caller) -> None:
    assert admin.post("/users/", GRACE).json["code"] == "already_exists"
    assert admin.post("/users/agents/", {"username": "grace"}).status_code == 409
    assert admin.patch(f"/users/{admin.id}/", {"username": "grace"}).status_code == 409


def test_a_new_password_ends_the_sessions_and_leaves_the_keys(app: Flask, admin: Caller, anonymous: Caller) -> None:
    user_id = admin.post("/users/", GRACE).json["id"]
    session = Caller(app.test_client(), anonymous.post("/auth/token/", GRACE).json["key"])
    deploy = Caller(app.test_client(), session.post("/users/me/keys/", {"name": "deploy"}).json["key"])

    admin.patch(f"/users/{user_id}/", {"password": "another good password"})

    assert session.get("/auth/me/").status_code == 401
    assert deploy.get("/auth/me/").status_code == 200
    assert anonymous.post("/auth/token/", GRACE).status_code == 401


def test_an_administrator_takes_away_a_lost_second_factor(app: Flask, admin: Caller, normal: Caller) -> None:
    with app.app_context():
        user = db.session.get(UserProfile, normal.id)
        assert user is not None
        user.mfa_enabled, user.totp_secret = True, "A" * 32
        db.session.commit()

    assert admin.patch(f"/users/{normal.id}/", {"mfa_enabled": True}).status_code == 422
    assert admin.patch(f"/users/{normal.id}/", {"mfa_enabled": False}).json["mfa_enabled"] is False
    assert normal.post("/auth/mfa/setup/").status_code == 200


def test_an_agent_begins_with_one_key_and_no_password(app: Flask, admin: Caller) -> None:
    answer = admin.post("/users/agents/", {"username": "night-shift"})

    assert answer.status_code == 201
    assert answer.json["is_agent"] is True
    agent = Caller(app.test_client(), answer.json["key"])
    assert agent.get("/auth/me/").json["username"] == "night-shift"
    assert admin.patch(f"/users/{answer.json['id']}/", {"password": "some good password"}).status_code == 409


def test_the_last_administrator_stays(admin: Caller, person: Person) -> None:
    admin.post("/users/agents/", {"username": "robot", "role": "admin"})
    address = f"/users/{admin.id}/"

    assert admin.delete(address).json["code"] == "last_admin"
    assert admin.patch(address, {"role": "normal"}).status_code == 409

    person("second", role="admin")
    assert admin.patch(address, {"role": "normal"}).status_code == 200
    assert admin.get("/users/").status_code == 403


def test_two_administrators_who_remove_each_other_at_once_leave_one(app: Flask, admin: Caller, person: Person) -> None:
    other, answers = person("second", role="admin"), []

    def remove(by: Caller, whom: Caller) -> None:
        answers.append(by.delete(f"/users/{whom.id}/").status_code)

    rivals = [threading.Thread(target=remove, args=pair) for pair in ((admin, other), (other, admin))]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()

    assert answers.count(204) == 1
    with app.app_context():
        assert len(db.session.scalars(select(UserProfile)).all()) == 1


def test_a_key_is_shown_once_and_works_until_it_is_removed(app: Flask, normal: Caller) -> None:
    made = normal.post("/users/me/keys/", {"name": "deploy"})
    assert made.status_code == 201
    assert made.json["key"].startswith(made.json["prefix"])
    deploy = Caller(app.test_client(), made.json["key"])
    assert deploy.get("/auth/me/").status_code == 200

    listed = normal.get("/users/me/keys/").json

    assert [key["name"] for key in listed["items"]] == ["deploy", "test"]
    assert all("key" not in key and "key_hash" not in key for key in listed["items"])
    assert normal.delete(f"/users/me/keys/{made.json['id']}/").status_code == 204
    assert deploy.get("/auth/me/").status_code == 401


def test_a_key_expires_when_it_was_told_to(normal: Caller) -> None:
    tomorrow = (clock.now() + timedelta(days=1)).isoformat()
    yesterday = (clock.now() - timedelta(days=1)).isoformat()

    assert normal.post("/users/me/keys/", {"name": "a", "expires_at": tomorrow}).json["expires_at"].endswith("Z")
    assert normal.post("/users/me/keys/", {"name": "b", "expires_at": yesterday}).status_code == 422
    assert normal.post("/users/me/keys/", {"name": "c", "expires_at": "2030-01-01T00:00:00"}).status_code == 422


def test_a_key_and_a_user_have_names_that_can_be_seen(admin: Caller) -> None:
    nobody = {"username": " ", "password": "a long password"}
    for path, body, field in (("/users/me/keys/", {"name": "\t "}, "name"), ("/users/", nobody, "username")):
        answer = admin.post(path, body)

        assert answer.status_code == 422
        assert answer.json["errors"].keys() == {field}


def test_nobody_reaches_another_users_keys(admin: Caller, normal: Caller, stranger: Caller) -> None:
    key_id = normal.post("/users/me/keys/", {"name": "deploy"}).json["id"]

    assert stranger.delete(f"/users/me/keys/{key_id}/").status_code == 404
    assert stranger.get(f"/users/{normal.id}/keys/").status_code == 403
    assert admin.delete(f"/users/{stranger.id}/keys/{key_id}/").status_code == 404
    assert admin.delete(f"/users/{normal.id}/keys/{key_id}/").status_code == 204


def test_an_administrator_gives_a_user_a_key(app: Flask, admin: Caller, normal: Caller) -> None:
    made = admin.post(f"/users/{normal.id}/keys/", {"name": "from ada"})

    assert Caller(app.test_client(), made.json["key"]).get("/auth/me/").json["username"] == "grace"
    assert admin.get(f"/users/{normal.id}/keys/").json["total"] == 2
    assert admin.get("/users/999/keys/").status_code == 404
    assert admin.post("/users/999/keys/", {"name": "x"}).status_code == 404


@pytest.mark.parametrize("number", ["0", "-1", "999", "2147483648", "9223372036854775808", "1e3", "%00", "abc"])
def test_a_number_nobody_has_is_not_found(admin: Caller, number: str) -> None:
    assert admin.get(f"/users/{number}/").status_code == 404


def test_the_pages_of_a_list_do_not_overlap(admin: Caller, person: Person) -> None:
    for number in range(4):
        person(f"user{number}")

    pages = [admin.get(f"/users/?limit=2&offset={offset}").json for offset in (0, 2, 4)]

    names = [user["username"] for page in pages for user in page["items"]]
    assert names == ["ada", "user0", "user1", "user2", "user3"]
    assert {page["total"] for page in pages} == {5}


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "offset=-1", f"offset={2**63}", "page=2"])
def test_a_page_that_cannot_be_is_refused(admin: Caller, query: str) -> None:
    answer = admin.get(f"/users/?{query}")

    assert answer.status_code == 422
    assert list(answer.json["errors"]) == [query.partition("=")[0]]


def test_a_repeated_request_with_a_key_makes_one_user(app: Flask, admin: Caller) -> None:
    headers = {"Idempotency-Key": "make-grace-1"}

    first = admin.post("/users/", GRACE, headers=headers)
    second = admin.post("/users/", GRACE, headers=headers)

    assert (second.status_code, second.json) == (first.status_code, first.json)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["ETag"] == first.headers["ETag"]
    assert "Idempotent-Replayed" not in first.headers
    other = admin.post("/users/", {**GRACE, "username": "hopper"}, headers=headers)
    assert (other.status_code, other.json["code"]) == (422, "idempotency_conflict")


def test_an_answer_kept_for_repetition_does_not_give_a_key_away(app: Flask, normal: Caller) -> None:
    headers = {"Idempotency-Key": "key-1"}

    key = normal.post("/users/me/keys/", {"name": "deploy"}, headers=headers).json["key"]

    assert normal.post("/users/me/keys/", {"name": "deploy"}, headers=headers).json["key"] == key
    with app.app_context():
        assert key not in str(db.session.scalars(select(IdempotencyRecord.body)).one())


def test_the_same_idempotency_key_of_two_users_is_two_keys(normal: Caller, stranger: Caller) -> None:
    headers = {"Idempotency-Key": "key-1"}

    first = normal.post("/users/me/keys/", {"name": "deploy"}, headers=headers)
    second = stranger.post("/users/me/keys/", {"name": "deploy"}, headers=headers)

    assert second.status_code == 201
    assert second.json["key"] != first.json["key"]


def test_a_refused_request_leaves_its_idempotency_key_free(admin: Caller) -> None:
    headers = {"Idempotency-Key": "make-grace-1"}
    assert admin.post("/users/", {"username": "grace"}, headers=headers).status_code == 422

    assert admin.post("/users/", GRACE, headers=headers).status_code == 201


def test_while_a_request_runs_its_repetition_is_asked_to_wait(app: Flask, normal: Caller) -> None:
    is_running, may_end, calls = threading.Event(), threading.Event(), []

    @idempotent
    def slow() -> dict[str, int]:
        calls.append(1)
        is_running.set()
        may_end.wait(10)
        return {"calls": len(calls)}

    app.add_url_rule("/api/v1/slow/", "slow", slow, methods=["POST"])
    headers, answers = {"Idempotency-Key": "one"}, []
    first = threading.Thread(target=lambda: answers.append(normal.post("/slow/", headers=headers)))
    first.start()
    assert is_running.wait(10)

    second = normal.post("/slow/", headers=headers)
    may_end.set()
    first.join()

    assert (second.status_code, second.json["code"]) == (409, "request_in_progress")
    assert second.headers["Retry-After"] == "1"
    assert answers[0].json == normal.post("/slow/", headers=headers).json == {"calls": 1}


@pytest.mark.parametrize("key", ["", " ", "with space", "x" * 129, "\xe9"])
def test_an_unfit_idempotency_key_is_refused(admin: Caller, key: str) -> None:
    answer = admin.post("/users/", GRACE, headers={"Idempotency-Key": key})

    assert (answer.status_code, list(answer.json["errors"])) == (422, ["Idempotency-Key"])


def test_a_change_based_on_an_old_version_is_refused(admin: Caller, normal: Caller) -> None:
    address = f"/users/{normal.id}/"
    seen = admin.get(address).headers["ETag"]
    changed = admin.patch(address, {"username": "hopper"}, headers={"If-Match": seen})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != seen

    for stale in (seen, '"nonsense"', "unquoted", f"W/{changed.headers['ETag']}"):
        answer = admin.patch(address, {"username": "late"}, headers={"If-Match": stale})
        assert (answer.status_code, answer.json["code"]) == (412, "stale_version")
    assert admin.delete(address, headers={"If-Match": seen}).status_code == 412

    assert admin.patch(address, {"username": "any"}, headers={"If-Match": "*"}).status_code == 200
    assert admin.get(address).json["username"] == "any"


def test_a_reader_who_has_the_version_gets_no_copy(admin: Caller, normal: Caller) -> None:
    address = f"/users/{normal.id}/"
    seen = admin.get(address).headers["ETag"]

    answer = admin.get(address, headers={"If-None-Match": seen})

    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == seen
    admin.patch(address, {"role": "admin"})
    assert admin.get(address, headers={"If-None-Match": seen}).status_code == 200
