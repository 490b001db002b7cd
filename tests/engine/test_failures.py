"""Steps that fail: tried again in time, given up by their policy, and never more than one step's trouble."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipelit import clock
from pipelit.engine.runtime import engine
from pipelit.errors import UpstreamError
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from tests.engine.stories import (
    attempts,
    outcome,
    run_all_with,
    run_with,
    started,
    started_with,
    template,
    worker_that,
)
from tests.support.hand import Hand
from tests.support.workflows import build

ROUNDING = timedelta(milliseconds=10)


def failing(times: int, *, after: float | None = None) -> Callable[[StepContext], Completed]:
    """A node that fails a number of times before it succeeds."""

    def run(context: StepContext) -> Completed:
        if context.attempt <= times:
            raise UpstreamError("busy", after=after)
        return Completed({"output": f"at attempt {context.attempt}"})

    return run


def retrying(attempts: int, **more: Any) -> dict[str, Any]:
    return {"failure": {"retry": {"attempts": attempts, "jitter": 0.0, **more.pop("retry", {})}, **more}}


def is_sent_in(seconds: float, hand: Hand, run: Callable[[], None]) -> bool:
    """Whether what is run, however long that takes, sends a message that may be run so much later."""
    before = clock.now()
    run()
    after = clock.now()
    eta = datetime.fromisoformat(json.loads(hand.redis.lindex("default", 0))["headers"]["eta"])
    delay = timedelta(seconds=seconds)
    return before + delay - ROUNDING <= eta <= after + delay + ROUNDING


def test_a_retry_waits_in_a_countdown_message_and_longer_each_time(hand: Hand) -> None:
    worker = worker_that(failing(2))
    row = started({"a": template(**retrying(3, retry={"initial": 5, "factor": 3}))}, "start -> a")

    assert is_sent_in(5, hand, lambda: run_with(worker, hand.take()))
    assert is_sent_in(15, hand, lambda: run_with(worker, hand.take()))
    run_with(worker, hand.take())

    assert attempts(row, "a") == [
        (1, "failed", "upstream_failed"),
        (2, "failed", "upstream_failed"),
        (3, "success", None),
    ]
    assert outcome(row).final_output == "at attempt 3"


def test_the_other_side_may_ask_for_more_patience(hand: Hand) -> None:
    row = started({"a": template(**retrying(2, retry={"initial": 1}))}, "start -> a")

    assert is_sent_in(20, hand, lambda: run_with(worker_that(failing(1, after=20)), hand.take()))
    assert outcome(row).status == "running"


def test_a_long_delay_waits_in_the_set_of_deadlines_and_costs_no_worker_anything(hand: Hand) -> None:
    worker = worker_that(failing(1))
    row = started({"a": template(**retrying(2, retry={"initial": 600, "ceiling": 3600}))}, "start -> a")
    run_with(worker, hand.take())
    assert hand.waiting() == []

    engine().recovery.sweep_deadlines(clock.now_ms() + 590_000)
    assert hand.waiting() == []
    engine().recovery.sweep_deadlines(clock.now_ms() + 601_000)

    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:a::a2"]
    run_all_with(worker, hand)
    assert outcome(row).final_output == "at attempt 2"


def test_a_postponed_step_is_sent_although_others_stand_in_its_queue(hand: Hand) -> None:
    worker = worker_that(failing(1))
    started({"a": template(**retrying(2, retry={"initial": 600, "ceiling": 3600}))}, "start -> a")
    run_with(worker, hand.take())
    hand.redis.lpush("default", hand.app.extensions["pipelit.engine"].dispatcher.drain(is_urgent=False).payload)

    engine().recovery.sweep_deadlines(clock.now_ms() + 601_000)
    engine().recovery.sweep_deadlines(clock.now_ms() + 602_000)

    assert len(hand.waiting()) == 2


def test_a_step_that_never_succeeds_is_given_up_after_its_last_attempt(hand: Hand) -> None:
    row = started({"a": template(**retrying(2, retry={"initial": 0})), "b": template()}, "start -> a; a -> b")

    run_all_with(worker_that(failing(9)), hand)

    ended = outcome(row)
    assert (ended.status, ended.error_code, ended.error_message) == ("failed", "upstream_failed", "busy")
    assert len(attempts(row, "a")) == 2
    assert attempts(row, "b") == []


def test_a_default_value_takes_the_place_of_the_output(hand: Hand) -> None:
    policy = {"failure": {"on_error": "default", "default": {"price": 0}}}
    row = started(
        {"a": template("{{ trigger.txt }}", **policy), "b": template("{{ a.output.price }}")}, "start -> a; a -> b"
    )

    hand.run_all()

    assert outcome(row).final_output == 0
    assert attempts(row, "a") == [(1, "failed", "expression_failed")]


@pytest.mark.parametrize(
    ("default", "ports"),
    [
        ({"body": "none", "status": 0}, {"body": "none", "status": 0}),
        ({"body": {"price": 0}}, {"body": {"price": 0}}),
    ],
)
def test_a_default_value_may_name_the_ports_that_it_stands_for(
    hand: Hand, default: dict[str, Any], ports: dict[str, Any]
) -> None:
    failure = {"on_error": "default", "default": default}
    nodes = {
        "call": ("http_request", {"url": "http://localhost.invalid/", "failure": failure}),
        "b": template("{{ call }}"),
    }
    row = started(nodes, "start -> call; call -> b")

    hand.run_all()

    assert outcome(row).final_output == ports
    assert [(attempt, status) for attempt, status, _ in attempts(row, "call")] == [(1, "failed")]


def test_a_default_of_a_type_with_the_port_output_may_be_any_value(hand: Hand) -> None:
    for default in ({"output": 1}, {"output": 1, "other": 2}, {}, [], None, "text"):
        policy = {"failure": {"on_error": "default", "default": default}}
        failing = template("{{ trigger.txt }}", **policy)
        nodes = {"start": ("trigger_manual", {}), "a": failing, "b": template("{{ a.output }}")}
        row = started_with(build(nodes, "start -> a; a -> b"))
        hand.run_all()
        assert outcome(row).final_output == (1 if default == {"output": 1} else default)


def circle() -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "'output'"),
        (b"bytes", "bytes"),
        (circle(), "Circular"),
        ({1: object()}, "object"),
        (clock.now(), "datetime"),
    ],
)
def test_an_output_that_is_not_json_fails_its_step_and_names_it(hand: Hand, value: Any, said: str) -> None:
    row = started({"a": template()}, "start -> a")

    run_all_with(worker_that(lambda _: Completed({"output": value})), hand)

    assert attempts(row, "a") == [(1, "failed", "output_invalid")]
    assert said in outcome(row).logs[-1].error
    assert outcome(row).error_code == "output_invalid"


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), AssertionError("no")])
def test_a_node_type_with_a_bug_fails_its_step_alone(hand: Hand, error: Exception) -> None:
    def crash(_: StepContext) -> Completed:
        raise error

    policy = {"failure": {"on_error": "continue"}}
    row = started({"a": template(**policy), "sorry": template("sorry")}, "start -> a; a!error -> sorry")

    run_with(worker_that(crash), hand.take())
    hand.run_all()

    assert attempts(row, "a") == [(1, "failed", "node_crashed")]
    assert type(error).__name__ in outcome(row).logs[1].error
    assert outcome(row).final_output == "sorry"


def test_a_step_that_takes_too_long_is_stopped_and_may_be_tried_again(hand: Hand) -> None:
    def endless_at_first(context: StepContext) -> Completed:
        while context.attempt == 1:
            pass
        return Completed({"output": "at last"})

    row = started({"a": template(**retrying(2, timeout=0.2, retry={"initial": 0}))}, "start -> a")

    run_all_with(worker_that(endless_at_first), hand)

    assert attempts(row, "a") == [(1, "failed", "step_timeout"), (2, "success", None)]


def test_the_log_shows_what_a_failed_attempt_was_given(hand: Hand) -> None:
    row = started({"a": template("Hello {{ trigger.text }}")}, "start -> a", text="Ada")

    run_all_with(worker_that(failing(9)), hand)

    assert json.loads(outcome(row).logs[1].input) == {"template": "Hello Ada"}
