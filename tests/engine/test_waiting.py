"""Executions that wait: for a time, for the outside, for a person. No worker is held, and nobody is asked in vain."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipelit import clock
from pipelit.engine.keys import DEADLINES
from pipelit.engine.runtime import engine
from pipelit.errors import Invalid, WrongState
from pipelit.extensions import db
from pipelit.models import PendingTask, WorkflowExecution
from pipelit.services import answers, executions
from pipelit.services.answers import Answer
from tests.engine.stories import attempts, author, keys_of, outcome, started, template
from tests.support.hand import Hand

EXTERNAL = {"pause": ("wait", {"external": True}), "end": template("{{ pause.output }}")}


def asked(row: WorkflowExecution) -> list[tuple[str, str]]:
    """Which steps a person is asked about, and where each is held."""
    engine().drain_journal()
    db.session.rollback()
    tasks = db.session.query(PendingTask).filter_by(execution_id=row.execution_id).order_by(PendingTask.step)
    return [(task.step, task.kind) for task in tasks]


def test_a_short_wait_ends_by_its_own_message(hand: Hand) -> None:
    row = started({"pause": ("wait", {"seconds": 20}), "end": template("end")}, "start -> pause; pause -> end")
    hand.deliver()

    wake = next(d for d in hand.waiting("maintenance") if d.name == "pipelit.executions.wake")
    payload = next(text for text in hand.redis.lrange("maintenance", 0, -1) if wake.task_id in text)
    eta = datetime.fromisoformat(json.loads(payload)["headers"]["eta"])
    assert 15 < (eta - clock.now()).total_seconds() < 21
    hand.run_all()

    assert outcome(row).status == "completed"
    assert hand.redis.zcard(DEADLINES) == 0


def test_a_wait_whose_message_was_lost_ends_all_the_same_and_once(hand: Hand) -> None:
    row = started({"pause": ("wait", {"seconds": 20}), "end": template("end")}, "start -> pause; pause -> end")
    hand.deliver()
    wake = next(d for d in hand.waiting("maintenance") if d.name == "pipelit.executions.wake")

    engine().recovery.sweep_deadlines(clock.now_ms() + 21_000)
    hand.run(wake)
    hand.run_all()

    assert attempts(row, "pause") == [(1, "success", None)]
    assert attempts(row, "end") == [(1, "success", None)]


def test_a_wait_until_a_time_months_away_is_only_a_deadline(hand: Hand) -> None:
    until = clock.now() + timedelta(days=300)
    row = started(
        {"pause": ("wait", {"until": until.isoformat()}), "end": template("end")}, "start -> pause; pause -> end"
    )
    hand.run_all()

    engine().recovery.sweep_deadlines(round((until - timedelta(seconds=1)).timestamp() * 1000))
    assert outcome(row).status == "running"
    engine().recovery.sweep_deadlines(round(until.timestamp() * 1000))
    hand.run_all()

    assert outcome(row).status == "completed"


def test_the_outside_resumes_with_what_it_has_to_say(hand: Hand) -> None:
    ada = author()
    row = started(
        {**EXTERNAL, "more": ("wait", {"seconds": 3600})}, "start -> pause; pause -> end; end -> more", by=ada
    )
    hand.run_all()
    assert (outcome(row).status, asked(row)) == ("interrupted", [("pause", "external")])

    answers.answer(row.execution_id, Answer(data={"answer": 42}), by=ada)
    hand.run_all()

    assert (outcome(row).status, asked(row)) == ("running", [])
    engine().recovery.sweep_deadlines(clock.now_ms() + 3_601_000)
    assert outcome(row).final_output == {"answer": 42}


def test_the_outside_may_be_late(hand: Hand) -> None:
    ada = author()
    row = started(
        {"pause": ("wait", {"external": True, "seconds": 60}), "end": template("{{ pause.output.text }}")},
        "start -> pause; pause -> end",
        by=ada,
        payload={"text": "nobody came"},
    )
    hand.deliver()
    asked(row)
    expires = db.session.query(PendingTask).one().expires_at
    assert expires is not None
    assert 50 < (expires - clock.now()).total_seconds() < 61

    engine().recovery.sweep_deadlines(clock.now_ms() + 61_000)
    hand.run_all()

    assert (outcome(row).final_output, asked(row)) == ("nobody came", [])
    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(data="too late"), by=ada)


def test_a_step_may_be_held_before_and_after(hand: Hand) -> None:
    ada = author()
    row = started(
        {"send": template("sent", interrupt_before=True, interrupt_after=True), "end": template("end")},
        "start -> send; send -> end",
        by=ada,
    )

    seen = []
    for _ in range(2):
        hand.run_all()
        seen.append((asked(row), attempts(row, "send")))
        answers.answer(row.execution_id, Answer(), by=ada)
        assert outcome(row).status == "running"
    hand.run_all()

    assert seen == [([("send", "before")], []), ([("send", "after")], [(1, "success", None)])]
    assert outcome(row).status == "completed"


def test_a_person_who_says_no_ends_the_execution(hand: Hand) -> None:
    ada = author()
    row = started({"send": template("sent", interrupt_before=True)}, "start -> send", by=ada)
    hand.run_all()

    ended = answers.answer(row.execution_id, Answer(decision="reject"), by=ada)
    hand.run_all()

    assert ended.status == "cancelled"
    assert (asked(row), attempts(row, "send")) == ([], [(0, "cancelled", "step_cancelled")])


def test_an_answer_is_given_once(hand: Hand) -> None:
    ada = author()
    row = started(
        {"send": template("sent", interrupt_before=True), "end": template("end")}, "start -> send; send -> end", by=ada
    )
    hand.run_all()
    answers.answer(row.execution_id, Answer(), by=ada)

    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(), by=ada)
    hand.run_all()
    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(), by=ada)

    assert attempts(row, "send") == [(1, "success", None)]


def test_when_several_steps_wait_one_is_named(hand: Hand) -> None:
    ada = author()
    row = started(
        {"left": template("l", interrupt_before=True), "right": template("r", interrupt_before=True)},
        "start -> left; start -> right",
        by=ada,
    )

    with pytest.raises(Invalid, match="which one"):
        answers.answer(row.execution_id, Answer(), by=ada)
    answers.answer(row.execution_id, Answer(node_id="right"), by=ada)
    hand.run_all()

    assert (outcome(row).status, asked(row)) == ("interrupted", [("left", "before")])
    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(node_id="right"), by=ada)


def test_iterations_that_are_asked_about_at_once_are_answered_one_by_one(hand: Hand) -> None:
    ada = author()
    row = started(
        {
            "each": ("loop", {"items": [1, 2, 3], "concurrency": 3}),
            "a": template("{{ loop.item }}", interrupt_before=True),
        },
        "start -> each; each =body=> a; a =return=> each",
        by=ada,
    )
    hand.run_all()
    assert [step for step, _ in asked(row)] == ["a@each:0", "a@each:1", "a@each:2"]

    for _ in range(3):
        answers.answer(row.execution_id, Answer(), by=ada)
        hand.run_all()

    assert outcome(row).final_output == {"results": [1, 2, 3]}


def test_nobody_is_asked_any_more_about_an_iteration_that_was_given_up(hand: Hand) -> None:
    row = started(
        {
            "each": ("loop", {"items": [1, {}], "concurrency": 2, "failure": {"on_error": "continue"}}),
            "pick": ("switch", {"rules": [{"field": "loop.item", "operator": "equals", "value": 1, "route": "hold"}]}),
            "held": template("held", interrupt_before=True),
            "bad": template("{{ loop.item.nothing }}"),
            "sorry": ("wait", {"seconds": 3600}),
        },
        "start -> each; each =body=> pick; pick.hold -> held; pick.default -> bad; "
        "held =return=> each; bad =return=> each; each!error -> sorry",
    )

    hand.run_all()

    assert (outcome(row).status, asked(row)) == ("running", [])


def waiting(hand: Hand, **config: Any) -> Callable[[Any], WorkflowExecution]:
    """Starts an execution and brings it to its wait."""

    def begin(ada: Any) -> WorkflowExecution:
        row = started({"pause": ("wait", config), "end": template("end")}, "start -> pause; pause -> end", by=ada)
        hand.run_all(until=lambda: not hand.waiting())
        return row

    return begin


@pytest.mark.parametrize("config", [{"seconds": 3600}, {"external": True}, {"external": True, "seconds": 9}])
def test_what_waits_can_be_cancelled(hand: Hand, config: dict[str, Any]) -> None:
    ada = author()
    row = waiting(hand, **config)(ada)

    executions.cancel(row.execution_id, by=ada)
    engine().recovery.sweep_deadlines(clock.now_ms() + 7_200_000)
    hand.run_all()

    assert (outcome(row).status, asked(row), attempts(row, "end")) == ("cancelled", [], [])
    assert (keys_of(row), hand.redis.zcard(DEADLINES)) == ({"meta"}, 0)
    with pytest.raises(WrongState, match="cancelled already"):
        executions.cancel(row.execution_id, by=ada)


def test_what_is_held_can_be_cancelled(hand: Hand) -> None:
    ada = author()
    row = started({"send": template("sent", interrupt_after=True)}, "start -> send", by=ada)
    hand.run_all()

    executions.cancel(row.execution_id, by=ada)

    assert (outcome(row).status, asked(row)) == ("cancelled", [])
    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(), by=ada)
