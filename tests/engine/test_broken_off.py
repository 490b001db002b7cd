"""Steps that come to no end of their own: one row each, whatever they were at, and with their times."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from pipelit import clock
from pipelit.engine import durability, timeouts
from pipelit.engine.core.events import StepSucceeded
from pipelit.engine.reading import ClaimedStep
from pipelit.engine.runtime import engine
from pipelit.engine.store import Claim
from pipelit.engine.timing import Stopwatch
from pipelit.errors import UpstreamError
from pipelit.extensions import db
from pipelit.models import ExecutionLog, WorkflowExecution
from pipelit.models.execution import TIMES
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed, Outcome
from pipelit.services import answers, execution_events, executions, retries
from pipelit.services.answers import Answer
from pipelit.services.retries import Retry
from tests.engine.stories import (
    Gate,
    attempts,
    author,
    beside,
    claim_as,
    dead_owner,
    outcome,
    run_with,
    started,
    started_with,
    task_of,
    template,
    worker_that,
)
from tests.engine.test_time import assert_adds_up, drawn
from tests.support.examples import examples
from tests.support.hand import Hand
from tests.support.workflows import build

QUEUE_ROUNDING = 1.01
"""The moment in which a step was sent is known to the millisecond, from its deadline."""


def row_of(row: WorkflowExecution, node_id: str, attempt: int = 1) -> ExecutionLog:
    (found,) = (log for log in outcome(row).logs if (log.node_id, log.attempt) == (node_id, attempt))
    return found


def time_out(row: WorkflowExecution) -> None:
    """What the sweep does when the time of an execution is over."""
    assert engine().coordinator.tell(row.execution_id, lambda state: timeouts.event(state, 60))


def stop(row: WorkflowExecution) -> None:
    assert executions.stop(row.execution_id)


ENDS = pytest.mark.parametrize(
    ("end", "status", "code"),
    [(stop, "cancelled", "step_cancelled"), (time_out, "timed_out", "execution_timed_out")],
)


@ENDS
def test_a_step_that_stands_in_a_queue_leaves_a_row(
    hand: Hand, end: Callable[[WorkflowExecution], None], status: str, code: str
) -> None:
    row = started({"a": template("a")}, "start -> a")
    time.sleep(0.05)

    end(row)
    hand.run_all()

    left = row_of(row, "a")
    assert (left.status, left.error_code) == (status, code)
    assert "before a worker took the step" in str(left.error)
    assert left.queued_ms is not None
    assert left.queued_ms >= 50
    assert (left.run_ms, left.duration_ms) == (None, None)
    assert_adds_up(row, within=QUEUE_ROUNDING)


@pytest.mark.parametrize("how_durable", ["async", "sync"])
@ENDS
def test_a_step_that_runs_leaves_one_row_whatever_it_returns_later(
    hand: Hand, end: Callable[[WorkflowExecution], None], status: str, code: str, how_durable: str
) -> None:
    gate = Gate()

    def slow(_: StepContext) -> Outcome:
        gate.wait()
        return Completed({"output": "too late"})

    nodes = {"start": ("trigger_manual", {}), "a": template("a")}
    row = started_with(build(nodes, "start -> a", durability=how_durable))
    delivery = hand.take()
    assert delivery is not None

    with beside(hand, lambda: run_with(worker_that(slow), delivery)):
        gate.reached.wait(20)
        time.sleep(0.05)
        end(row)
        ended = outcome(row)
        gate.opened.set()

    assert attempts(row, "a") == [(1, status, code)]
    left = row_of(row, "a")
    assert "while the step ran" in str(left.error)
    assert left.run_ms is not None
    assert left.run_ms >= 50
    assert left.duration_ms is not None
    assert (ended.status, outcome(row).status) == (status, status)
    assert_adds_up(row)


def test_a_step_that_ends_as_its_execution_is_cancelled_has_one_row(hand: Hand) -> None:
    gate = Gate()

    def slow(context: StepContext) -> Outcome:
        gate.wait()
        return Completed({"output": "in time"})

    nodes = {"start": ("trigger_manual", {}), "a": template("a")}
    row = started_with(build(nodes, "start -> a", durability="sync"))
    delivery = hand.take()
    assert delivery is not None

    with beside(hand, lambda: run_with(worker_that(slow), delivery)):
        gate.reached.wait(20)
        # Told to the engine, not yet in SQL: what the worker writes there comes first.
        stop(row)
        gate.opened.set()

    assert attempts(row, "a") == [(1, "success", None)]
    assert outcome(row).status == "cancelled"


def test_a_worker_that_dies_after_it_wrote_its_row_committed_until_that_was_noticed(hand: Hand) -> None:
    """With `durability: sync` the row comes before the commit, which this process did not live to make."""
    nodes = {"start": ("trigger_manual", {}), "a": template("a"), "b": template("b")}
    row = started_with(build(nodes, "start -> a; a -> b", durability="sync"))
    delivery = hand.take()
    assert delivery is not None
    task, watch = task_of(delivery), Stopwatch(delivery.args[3], clock.precise_ms())
    claim_as(f"{dead_owner()} token {watch}", delivery)
    loaded = engine().store.load(row.execution_id)
    assert loaded is not None
    snapshot, meta = loaded
    plan = engine().plans.get(meta.workflow_id, meta.plan_hash)
    watch.begin()
    report = replace(watch.report("{}"), outputs='{"output":"a"}')
    step = ClaimedStep(plan, task, Claim(snapshot, {}), meta, watch)
    durability.record(step, StepSucceeded(task.step, task.attempt), report)
    time.sleep(0.05)

    hand.run(delivery)
    hand.run_all()

    assert attempts(row, "a") == [(1, "success", None), (2, "success", None)]
    assert outcome(row).status == "completed"
    committed = row_of(row, "a").commit_ms
    assert committed is not None
    assert committed >= 50
    assert_adds_up(row)


def test_a_worker_that_dies_with_a_cancelled_step_adds_no_row(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    delivery = hand.take()
    assert delivery is not None
    claim_as(dead_owner(), delivery)

    stop(row)
    assert not engine().worker.lost(task_of(delivery))
    hand.run(delivery)
    engine().recovery.sweep_deadlines(2**53)
    hand.run_all()

    assert attempts(row, "a") == [(1, "cancelled", "step_cancelled")]


@ENDS
def test_a_step_that_waits_leaves_what_it_waited(
    hand: Hand, end: Callable[[WorkflowExecution], None], status: str, code: str
) -> None:
    row = started({"pause": ("wait", {"external": True})}, "start -> pause")
    hand.run_all()
    time.sleep(0.05)

    end(row)

    left = row_of(row, "pause")
    assert (left.status, left.error_code) == (status, code)
    assert "while the step waited" in str(left.error)
    assert left.waiting_ms is not None
    assert left.waiting_ms >= 50
    assert json.loads(str(left.input)) is not None
    assert_adds_up(row)


def test_a_step_that_is_held_before_its_run_leaves_what_it_waited(hand: Hand) -> None:
    row = started({"a": template(interrupt_before=True)}, "start -> a")
    hand.run_all()
    time.sleep(0.05)

    stop(row)

    left = row_of(row, "a", attempt=0)
    assert (left.status, left.error_code) == ("cancelled", "step_cancelled")
    assert "before a person let the step run" in str(left.error)
    assert_adds_up(row)


def test_a_step_that_is_held_behind_its_run_keeps_its_row(hand: Hand) -> None:
    row = started({"a": template("a", interrupt_after=True)}, "start -> a")
    hand.run_all()
    time.sleep(0.05)

    stop(row)

    assert attempts(row, "a") == [(1, "success", None)]
    waited = row_of(row, "a").waiting_ms
    assert waited is not None
    assert waited >= 50
    assert_adds_up(row)


@pytest.mark.parametrize("seconds", [10, 3600])
def test_a_failed_attempt_has_waited_for_the_next_one_until_the_end(hand: Hand, seconds: int) -> None:
    def fail(_: StepContext) -> Outcome:
        raise UpstreamError("not yet")

    row = started(
        {"a": template(failure={"retry": {"attempts": 2, "initial": seconds, "ceiling": 3600}})}, "start -> a"
    )
    delivery = hand.take()
    assert delivery is not None
    run_with(worker_that(fail), delivery)
    time.sleep(0.05)

    stop(row)

    assert attempts(row, "a") == [(1, "failed", "upstream_failed"), (2, "cancelled", "step_cancelled")]
    assert "before its next attempt was due" in str(row_of(row, "a", 2).error)
    waited = row_of(row, "a").waiting_ms
    assert waited is not None
    assert 50 <= waited < seconds * 1000
    assert_adds_up(row)


def test_an_attempt_whose_message_was_lost_has_been_queued_all_the_time(hand: Hand) -> None:
    started({"a": template("a")}, "start -> a")
    lost = hand.take()
    assert lost is not None
    at = clock.now_ms()

    for _ in range(2):
        engine().recovery.sweep_deadlines(at + 31_000)
        at += 31_000

    again = hand.take()
    assert again is not None
    assert again.args[3] == pytest.approx(lost.args[3], abs=1.0)


def test_what_an_iteration_leaves_behind_that_is_given_up_has_rows(hand: Hand) -> None:
    def fail(context: StepContext) -> Outcome:
        raise UpstreamError("never")

    nodes = {"each": ("loop", {"items": [1, 2, 3], "concurrency": 3}), "body": template("b")}
    row = started(nodes, "start -> each; each =body=> body; body =return=> each")
    hand.deliver()
    delivery = hand.take()
    assert delivery is not None
    run_with(worker_that(fail), delivery)
    hand.run_all()

    ended = outcome(row)
    told = {(log.node_id, log.scope): (log.status, log.error_code) for log in ended.logs[1:]}
    assert ended.status == "failed"
    assert len(ended.logs) == 5
    assert told[("each", "")][0] == "failed"
    assert sorted(status for (node, _), status in told.items() if node == "body") == [
        ("cancelled", "step_cancelled"),
        ("cancelled", "step_cancelled"),
        ("failed", "upstream_failed"),
    ]


def test_an_iteration_that_fails_beside_a_loop_that_goes_on_says_so(hand: Hand) -> None:
    def act(context: StepContext) -> Outcome:
        if context.node_id == "bad":
            raise UpstreamError("never")
        return Completed({"output": "x"})

    nodes = {"each": ("loop", {"items": [1], "on_error": "continue"}), "bad": template(), "slow": template()}
    row = started(nodes, "start -> each; each =body=> bad; each =body=> slow; slow =return=> each")
    hand.deliver()
    waiting = {task_of(delivery).step.node: delivery for delivery in (hand.take(), hand.take()) if delivery}
    run_with(worker_that(act), waiting["bad"])
    run_with(worker_that(act), waiting["slow"])
    hand.run_all()

    assert outcome(row).status == "completed"
    assert attempts(row, "slow") == [(1, "cancelled", "step_cancelled")]
    assert "The iteration was given up" in str(row_of(row, "slow").error)


def test_a_failure_elsewhere_is_named_as_the_reason(hand: Hand) -> None:
    def fail(_: StepContext) -> Outcome:
        raise UpstreamError("never")

    row = started({"a": template(), "b": ("wait", {"external": True})}, "start -> a; start -> b")
    first, second = hand.take(), hand.take()
    assert first is not None
    assert second is not None
    by_node = {task_of(delivery).step.node: delivery for delivery in (first, second)}
    hand.run(by_node["b"])
    run_with(worker_that(fail), by_node["a"])

    assert attempts(row, "b") == [(1, "cancelled", "step_cancelled")]
    assert "failed at another step while the step waited" in str(row_of(row, "b").error)


def test_what_was_broken_off_runs_again_with_a_retry(hand: Hand) -> None:
    ada = author()
    nodes = {"a": template("a"), "b": template("{{ a.output }}b"), "pause": ("wait", {"external": True})}
    row = started(nodes, "start -> a; a -> b; a -> pause", by=ada)
    hand.deliver()
    stop(row)
    hand.run_all()
    assert [status for _, status, _ in (*attempts(row, "b"), *attempts(row, "pause"))] == ["cancelled", "cancelled"]

    again = retries.retry(row.execution_id, Retry(), by=ada)
    hand.run_all()

    assert attempts(again, "a") == [(1, "success", None)]
    assert attempts(again, "b") == [(1, "success", None)]
    assert attempts(again, "pause") == []
    assert outcome(again).is_live


def test_watchers_hear_what_became_of_each_step(hand: Hand) -> None:
    row = started({"a": template("a"), "b": template("b")}, "start -> a; start -> b")

    stop(row)
    outcome(row)

    *_, one, other, last = execution_events.after(row.execution_id, 0)
    assert [one["data"]["status"], other["data"]["status"]] == ["cancelled", "cancelled"]
    assert {one["data"]["node_id"], other["data"]["node_id"]} == {"a", "b"}
    assert one["data"]["error_code"] == "step_cancelled"
    assert last["type"] == "execution_cancelled"


def test_an_execution_that_took_too_long_says_where_it_was(hand: Hand) -> None:
    nodes = {"each": ("loop", {"items": [1, 2]}), "pause": ("wait", {"external": True})}
    row = started(nodes, "start -> each; each =body=> pause; pause =return=> each")
    hand.run_all()

    time_out(row)

    ended = outcome(row)
    assert (ended.status, ended.error_code, ended.error_node_id) == ("timed_out", "execution_timed_out", "pause")
    assert "(60 s)" in str(ended.error_message)
    assert "pause@each:0" in str(ended.error_message)
    assert {log.node_id: log.status for log in ended.logs} == {
        "start": "success",
        "pause": "timed_out",
        "each": "timed_out",
    }


@examples(15, suppress_health_check=[*HealthCheck])
@given(
    fates=st.lists(st.sampled_from(["fine", "retry", "wait", "held", "loop"]), min_size=1, max_size=4),
    moves=st.integers(0, 12),
    end=st.sampled_from([stop, time_out]),
    how_durable=st.sampled_from(["async", "sync"]),
)
def test_wherever_it_is_stopped_each_attempt_has_one_row_and_the_times_of_a_chain_add_up(
    hand: Hand, fates: list[str], moves: int, end: Callable[[WorkflowExecution], None], how_durable: str
) -> None:
    def act(context: StepContext) -> Outcome:
        if "retry" in context.node_id and context.attempt < 3:
            raise UpstreamError("not yet")
        return Completed({"output": context.node_id})

    names = ["start", *(f"{fate}{number}" for number, fate in enumerate(fates))]
    nodes: dict[str, Any] = {"start": ("trigger_manual", {})}
    edges = [f"{one} -> {two}" for one, two in pairwise(names)]
    for name in names[1:]:
        nodes[name], more = drawn(name)
        nodes |= more
        edges += [f"{name} =body=> in_{name}; in_{name} =return=> {name}"] if more else []
    with db.session.no_autoflush:
        workflow = build(nodes, "; ".join(edges), name=f"Stopped {clock.precise_ms()}", durability=how_durable)
    row = started_with(workflow)
    admin = author(f"stopping{row.execution_id}")

    for _ in range(moves):
        move(hand, row, worker_that(act), admin)
    state = engine().store.load(row.execution_id)
    if state is not None:
        end(row)
    hand.run_all()

    ended = outcome(row)
    assert not ended.is_live
    rows = Counter((log.node_id, log.scope, log.attempt) for log in ended.logs)
    assert set(rows.values()) == {1}
    if state is not None:
        assert {(s.node, known.attempt) for s, known in state[0].state.steps.items() if known.attempt} <= {
            (log.node_id, log.attempt) for log in ended.logs
        }
    assert all(min(getattr(log, kind) or 0.0 for kind in TIMES) >= 0 for log in ended.logs)
    assert_adds_up(row, within=QUEUE_ROUNDING)


def move(hand: Hand, row: WorkflowExecution, worker: Any, admin: Any) -> None:
    """Deliver one message at its time, or else let go what is held."""
    while hand.deliver("maintenance"):
        pass
    delivery = hand.take()
    if delivery is not None:
        # Some are stopped while they are put off, the others run when they are due.
        if delivery.args[3] <= clock.precise_ms() or time.sleep(0.03) is None:
            run_with(worker, delivery)
    elif outcome(row).status == "interrupted":
        answers.answer(row.execution_id, Answer(), by=admin)
