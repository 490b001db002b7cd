"""A request that may be repeated, at every moment at which its process may die."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from pipelit.errors import AnswerLost, IdempotencyConflict, RequestInProgress
from pipelit.extensions import db, transaction
from pipelit.models import UserProfile
from pipelit.services import idempotency
from pipelit.services.idempotency import Answer

AT = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER = Answer(201, '{"id": 1}', {"Location": "/x/1"})


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def begin(print_: str = "print", at: datetime = AT) -> int | Answer:
    return idempotency.begin("user:1", "key", print_, at)


def have_an_effect() -> None:
    with transaction() as session:
        session.add(UserProfile(username=f"user{session.query(UserProfile).count()}"))


def effects() -> int:
    return db.session.query(UserProfile).count()


def record() -> int:
    found = begin()
    assert isinstance(found, int)
    return found


def test_the_second_request_gets_the_first_ones_answer() -> None:
    first = record()
    with idempotency.running(first):
        have_an_effect()
    idempotency.finish(first, ANSWER)

    assert begin() == ANSWER


def test_while_the_first_runs_the_second_waits_outside() -> None:
    record()

    with pytest.raises(RequestInProgress) as refusal:
        begin()
    assert refusal.value.after == 1


def test_another_request_under_the_same_key_is_a_mistake() -> None:
    record()

    with pytest.raises(IdempotencyConflict):
        begin("another print")


def test_a_failure_without_effect_frees_the_key() -> None:
    first = record()
    with pytest.raises(ZeroDivisionError), idempotency.running(first):
        raise ZeroDivisionError

    assert isinstance(begin(), int)


def test_a_failure_inside_the_transaction_is_one_without_effect() -> None:
    def fail_half_way() -> None:
        with idempotency.running(record()), transaction() as session:
            session.add(UserProfile(username="half"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()

    assert effects() == 0
    assert isinstance(begin(), int)


def test_a_failure_after_the_effect_does_not_repeat_it() -> None:
    def fail_afterwards() -> None:
        with idempotency.running(record()):
            have_an_effect()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_afterwards()
    with pytest.raises(AnswerLost):
        begin()
    with pytest.raises(AnswerLost):
        begin(at=AT + timedelta(hours=23))


def test_a_process_that_died_before_the_effect_blocks_the_key_for_two_minutes() -> None:
    record()

    with pytest.raises(RequestInProgress):
        begin(at=AT + timedelta(seconds=119))
    assert isinstance(begin(at=AT + timedelta(seconds=121)), int)


def test_keys_are_forgotten_after_a_day() -> None:
    idempotency.finish(record(), ANSWER)

    assert idempotency.forget_old(AT + timedelta(hours=23)) == 0
    assert begin(at=AT + timedelta(hours=23)) == ANSWER
    assert isinstance(begin("another print", at=AT + timedelta(hours=25)), int)
    assert idempotency.forget_old(AT + timedelta(hours=50)) == 1


def test_requests_differ_by_every_part_of_them() -> None:
    prints = {
        idempotency.fingerprint("POST", "/a?", b"x"),
        idempotency.fingerprint("PUT", "/a?", b"x"),
        idempotency.fingerprint("POST", "/b?", b"x"),
        idempotency.fingerprint("POST", "/a?", b"y"),
        idempotency.fingerprint("POST", "/a?x", b""),
    }

    assert len(prints) == 5
