"""A request that may be repeated, at every moment at which its process may die."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import update

from pipelit.engine import lease, processes
from pipelit.errors import AnswerLost, IdempotencyConflict, RequestInProgress
from pipelit.extensions import db, transaction
from pipelit.models import IdempotencyRecord, UserProfile
from pipelit.services import idempotency
from pipelit.services.idempotency import Answer, Running, Started

AT = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER = Answer(201, '{"id": 1}', {"Location": "/x/1"})


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def begin(print_: str = "print", at: datetime = AT) -> Running | Answer | Started:
    return idempotency.begin("user:1", "key", print_, at)


def have_an_effect() -> None:
    with transaction() as session:
        session.add(UserProfile(username=f"user{session.query(UserProfile).count()}"))


def effects() -> int:
    return db.session.query(UserProfile).count()


def record(at: datetime = AT) -> Running:
    found = begin(at=at)
    assert isinstance(found, Running)
    return found


def held_by(process: str) -> None:
    """Let the record be one of another process."""
    with transaction() as session:
        session.execute(update(IdempotencyRecord).values(holder=f"{process} token"))


@pytest.fixture
def dead() -> str:
    """A process of this machine that is gone, as records name it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        named = f"{lease.process_of(process.pid, keeper=os.getpid())}/{processes.started(process.pid)}"
        assert not lease.is_dead(named)
        process.kill()
    return named


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

    assert isinstance(begin(), Running)


def test_a_failure_inside_the_transaction_is_one_without_effect() -> None:
    def fail_half_way() -> None:
        with idempotency.running(record()), transaction() as session:
            session.add(UserProfile(username="half"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()

    assert effects() == 0
    assert isinstance(begin(), Running)


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


def test_a_process_that_died_before_the_effect_leaves_its_key_free_at_once(dead: str) -> None:
    record()
    held_by(dead)

    assert isinstance(begin(), Running)


def test_who_is_slow_keeps_its_key_for_two_minutes() -> None:
    record()

    with pytest.raises(RequestInProgress):
        begin(at=AT + timedelta(seconds=119))
    assert isinstance(begin(at=AT + timedelta(seconds=121)), Running)


@pytest.mark.parametrize("process", ["elsewhere/boot/pid:[1]/1.2/3", f"{lease.machine()}-restarted/1.2/3"])
def test_who_cannot_be_looked_for_keeps_its_key_for_seconds(process: str) -> None:
    record()
    held_by(process)

    with pytest.raises(RequestInProgress):
        begin(at=AT + timedelta(seconds=9))
    assert isinstance(begin(at=AT + timedelta(seconds=11)), Running)


def test_a_record_of_before_that_names_no_process_is_kept_for_two_minutes() -> None:
    record()
    with transaction() as session:
        session.execute(update(IdempotencyRecord).values(holder=None))

    with pytest.raises(RequestInProgress):
        begin(at=AT + timedelta(seconds=119))
    assert isinstance(begin(at=AT + timedelta(seconds=121)), Running)


def test_who_was_taken_for_gone_and_is_not_has_no_effect() -> None:
    slow = record()
    following = record(AT + timedelta(seconds=121))

    with pytest.raises(RequestInProgress), idempotency.running(slow):
        have_an_effect()
    assert effects() == 0
    with idempotency.running(following):
        have_an_effect()
    idempotency.finish(slow, replace(ANSWER, body="of the slow one"))
    idempotency.finish(following, ANSWER)

    assert (effects(), begin()) == (1, ANSWER)


def test_a_process_that_died_after_the_effect_is_not_waited_for(dead: str) -> None:
    with idempotency.running(record()):
        have_an_effect()
    with pytest.raises(RequestInProgress):
        begin()
    held_by(dead)

    with pytest.raises(AnswerLost):
        begin()


def test_a_request_that_started_an_execution_can_be_answered_whoever_died() -> None:
    with idempotency.running(record()), transaction() as session:
        idempotency.starts("an-execution")
        session.add(UserProfile(username="starter"))

    assert begin() == Started("an-execution")


def test_what_is_tidied_up_before_the_effect_marks_nothing() -> None:
    def tidy_up_and_fail() -> None:
        with idempotency.running(record()):
            with idempotency.preparing():
                have_an_effect()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tidy_up_and_fail()

    assert isinstance(begin(), Running)


def test_keys_are_forgotten_after_a_day() -> None:
    idempotency.finish(record(), ANSWER)

    assert idempotency.forget_old(AT + timedelta(hours=23)) == 0
    assert begin(at=AT + timedelta(hours=23)) == ANSWER
    assert isinstance(begin("another print", at=AT + timedelta(hours=25)), Running)
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
