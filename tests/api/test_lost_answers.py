"""A server that dies before it has answered: who asks again under the same key is answered of what was done."""

from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import update

from pipelit.extensions import transaction
from pipelit.models import IdempotencyRecord
from pipelit.services.idempotency import CARRIED_OUT
from tests.api.conftest import Work, working
from tests.api.test_executions import greeting
from tests.api.test_retries import ended
from tests.api.test_webhooks import live, open_shop
from tests.support.callers import Caller

__all__ = ["greeting", "live"]

KEY = {"Idempotency-Key": "once"}
LoseAnswers = Callable[[], None]


@pytest.fixture
def lose_answers(app: Flask) -> LoseAnswers:
    """What a process leaves that dies after the effect and before the answer."""

    def lose() -> None:
        with app.app_context(), transaction() as session:
            lost = {"status": CARRIED_OUT, "body": None, "holder": None}
            session.execute(update(IdempotencyRecord).values(**lost))

    return lose


def test_an_execution_that_was_started_is_the_answer(admin: Caller, greeting: str, lose_answers: LoseAnswers) -> None:
    first = admin.post(greeting, {"text": "Ada"}, headers=KEY)
    lose_answers()

    again = admin.post(greeting, {"text": "Ada"}, headers=KEY)

    assert (again.status_code, again.json) == (202, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert admin.get("/executions/").json["total"] == 1
    assert admin.post(greeting, {"text": "Bob"}, headers=KEY).json["code"] == "idempotency_conflict"


def test_who_waits_for_its_end_waits_again(admin: Caller, greeting: str, lose_answers: LoseAnswers, app: Flask) -> None:
    started = admin.post(f"{greeting}?wait=1", {"text": "Ada"}, headers=KEY)
    assert started.status_code == 202
    lose_answers()

    with working(app):
        answers = [admin.post(f"{greeting}?wait=1", {"text": "Ada"}, headers=KEY) for _ in range(20)]

    assert (answers[-1].status_code, answers[-1].json["final_output"]) == (200, "Hello Ada")
    assert answers[-1].json["execution_id"] == started.json["execution_id"]


def test_a_retry_that_was_begun_is_the_answer(admin: Caller, work: Work, lose_answers: LoseAnswers) -> None:
    address = ended(admin, work)
    first = admin.post(f"{address}retry/", headers=KEY)
    lose_answers()

    again = admin.post(f"{address}retry/", headers=KEY)

    assert (again.status_code, again.json) == (202, first.json)
    assert admin.get("/executions/").json["total"] == 2


def test_a_webhook_is_answered_with_the_output_of_what_it_started(
    admin: Caller, anonymous: Caller, app: Flask, lose_answers: LoseAnswers, live: object
) -> None:
    open_shop(admin, {"respond": "last"}, {"config": {"template": "Hello {{ hook.body.name }}"}})
    # Nobody works yet, and the patience of webhooks is short.
    accepted = anonymous.post("/webhooks/orders", {"name": "Ada"}, headers=KEY)
    assert accepted.status_code == 202
    lose_answers()

    with working(app):
        answers = [anonymous.post("/webhooks/orders", {"name": "Ada"}, headers=KEY) for _ in range(20)]

    assert (answers[-1].status_code, answers[-1].json) == (200, "Hello Ada")
    assert admin.get("/executions/").json["total"] == 1


def test_a_webhook_that_answers_at_once_names_what_it_started(
    admin: Caller, anonymous: Caller, lose_answers: LoseAnswers
) -> None:
    open_shop(admin, {})
    first = anonymous.post("/webhooks/orders", {}, headers=KEY)
    lose_answers()

    assert anonymous.post("/webhooks/orders", {}, headers=KEY).json == first.json


def test_of_everything_else_the_answer_is_gone(admin: Caller, lose_answers: LoseAnswers) -> None:
    about = {"name": "Shop", "slug": "shop"}
    assert admin.post("/workflows/", about, headers=KEY).status_code == 201
    lose_answers()

    assert admin.post("/workflows/", about, headers=KEY).json["code"] == "answer_lost"


def test_a_refusal_leaves_the_key_free_although_something_was_tidied_up_before(admin: Caller, greeting: str) -> None:
    execution_id = admin.post(greeting, {"text": "Ada"}).json["execution_id"]

    # Its beginning stands in the journal, which is written before one looks for what waits.
    answers = [admin.post(f"/executions/{execution_id}/resume/", headers=KEY) for _ in range(2)]

    assert [answer.json["code"] for answer in answers] == ["wrong_state", "wrong_state"]
