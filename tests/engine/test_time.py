"""Where the time of an execution goes: each kind in its column, and together what the clock says."""

import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import select

from pipelit import clock
from pipelit.engine import journal
from pipelit.engine.entries import Entry, Kind
from pipelit.engine.keys import DEADLINES
from pipelit.engine.narrator import Report
from pipelit.engine.runtime import engine
from pipelit.engine.timing import Stopwatch, report_of_lost
from pipelit.errors import UpstreamError
from pipelit.extensions import db
from pipelit.models import ExecutionLog, WorkflowExecution
from pipelit.models.execution import TIMES
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed, Outcome
from pipelit.services import answers, execution_details, executions
from pipelit.services.answers import Answer
from pipelit.services.execution_details import Time
from tests.engine.stories import (
    author,
    outcome,
    run_all_with,
    run_with,
    started,
    started_with,
    template,
    worker_that,
)
from tests.support.examples import examples
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.support.workflows import build

ROUNDING = 0.001
"""Each moment is known to the microsecond, and so is each end of the wall clock."""


def time_of(row: WorkflowExecution) -> Time:
    return execution_details.time_of(outcome(row))


def row_of(row: WorkflowExecution, node_id: str, attempt: int = 1) -> ExecutionLog:
    return next(log for log in outcome(row).logs if (log.node_id, log.attempt) == (node_id, attempt))


def assert_adds_up(row: WorkflowExecution, *, within: float = 2 * ROUNDING) -> Time:
    """The times of all rows are the wall clock, but for the rounding of its two ends."""
    found = time_of(row)
    assert found.wall_ms is not None
    spent = found.queued_ms + found.resolve_ms + found.run_ms + found.waiting_ms + found.commit_ms
    assert abs(spent - found.wall_ms) <= within, found
    return found


def until_sql_says(row: WorkflowExecution, status: str) -> None:
    wait_until(lambda: outcome(row).status == status, f"the execution is {status}")


def test_the_times_of_a_chain_are_its_wall_clock(hand: Hand) -> None:
    chain = {name: template(f"{name} {{{{ trigger.text }}}}") for name in "abcde"}
    row = started(chain, "start -> a; a -> b; b -> c; c -> d; d -> e", text="Ada")
    hand.run_all()

    found = assert_adds_up(row)

    assert found.waiting_ms == 0
    assert min(found.queued_ms, found.resolve_ms, found.run_ms, found.commit_ms) > 0
    for log in outcome(row).logs[1:]:
        kinds = [getattr(log, kind) for kind in TIMES if kind != "waiting_ms"]
        assert min(kinds) >= 0
        assert abs(sum(kinds) - log.queued_ms - log.duration_ms) <= 1


def test_so_are_those_of_a_chain_that_runs_in_place(hand: Hand) -> None:
    nodes = {"start": ("trigger_manual", {}), **{name: template(name) for name in "abcd"}}
    row = started_with(build(nodes, "start -> a; a -> b; b -> c; c -> d", placement="local"))
    hand.run_all()

    assert len([delivery for delivery in hand.delivered if delivery.queue == "default"]) < 4
    assert_adds_up(row)


def test_each_kind_of_time_is_where_it_passed(hand: Hand) -> None:
    def slow(_: StepContext) -> Completed:
        time.sleep(0.05)
        return Completed({"output": "x"})

    row = started({"a": template()}, "start -> a")
    time.sleep(0.05)
    run_all_with(worker_that(slow), hand)

    logged = row_of(row, "a")
    assert logged.queued_ms >= 50
    assert logged.run_ms >= 50
    assert_adds_up(row)


@examples(12, suppress_health_check=[*HealthCheck])
@given(
    fates=st.lists(st.sampled_from(["fine", "retry", "wait", "held", "loop", "fails"]), min_size=1, max_size=5),
    durability=st.sampled_from(["async", "sync"]),
)
def test_whatever_happens_on_the_way_the_times_of_a_chain_are_its_wall_clock(
    hand: Hand, fates: list[str], durability: str
) -> None:
    def act(context: StepContext) -> Outcome:
        if "retry" in context.node_id and context.attempt < 3:
            raise UpstreamError("not yet")
        if "fails" in context.node_id:
            raise UpstreamError("never")
        return Completed({"output": context.node_id})

    names = ["start", *(f"{fate}{number}" for number, fate in enumerate(fates))]
    nodes: dict[str, Any] = {"start": ("trigger_manual", {})}
    edges = [f"{one} -> {two}" for one, two in pairwise(names)]
    for name in names[1:]:
        nodes[name], more = drawn(name)
        nodes |= more
        edges += [f"{name} =body=> in_{name}; in_{name} =return=> {name}"] if more else []
    with db.session.no_autoflush:
        workflow = build(nodes, "; ".join(edges), name=f"Chain {clock.precise_ms()}", durability=durability)
    row = started_with(workflow)

    go_on(hand, row, act)

    assert outcome(row).status == ("failed" if "fails" in fates else "completed")
    assert_adds_up(row)


def drawn(name: str) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]:
    """The node of such a fate, and the body of a loop."""
    match name.rstrip("0123456789"):
        case "retry":
            return template(failure={"retry": {"attempts": 3, "initial": 0.02, "jitter": 0.5}}), {}
        case "wait":
            return ("wait", {"seconds": 0.02}), {}
        case "held":
            return template(interrupt_before=True, interrupt_after=True), {}
        case "loop":
            return ("loop", {"items": [1, 2, 3]}), {f"in_{name}": template()}
        case _:
            return template(), {}


def go_on(hand: Hand, row: WorkflowExecution, act: Any) -> None:
    """Deliver what comes, release what is held, until the execution is over."""
    worker = worker_that(act)
    admin = outcome(row).workflow.owner or author(f"releasing{row.execution_id}")
    for _ in range(50):
        if not outcome(row).is_live:
            return
        while delivery := hand.take():
            # The hand is given countdowns at once, a worker when they are over.
            wait_until(lambda due=delivery.args[3]: clock.precise_ms() >= due, "the attempt is due")  # type: ignore[misc]
            run_with(worker, delivery)
        while hand.deliver("maintenance"):
            pass
        if outcome(row).status == "interrupted":
            answers.answer(row.execution_id, Answer(), by=admin)


def test_a_wait_is_a_kind_of_its_own(hand: Hand) -> None:
    ada = author()
    row = started(
        {"pause": ("wait", {"external": True}), "end": template("end")}, "start -> pause; pause -> end", by=ada
    )
    hand.run_all()
    until_sql_says(row, "interrupted")
    time.sleep(0.05)

    answers.answer(row.execution_id, Answer(data={"answer": 42}), by=ada)
    hand.run_all()

    assert row_of(row, "pause").waiting_ms >= 50
    assert row_of(row, "end").waiting_ms is None
    assert_adds_up(row)


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("flag", ["interrupt_before", "interrupt_after"])
def test_what_a_person_takes_counts_as_waiting(hand: Hand, flag: str, durability: str) -> None:
    ada = author()
    nodes = {"start": ("trigger_manual", {}), "a": template("a", **{flag: True}), "b": template("b")}
    workflow = build(nodes, "start -> a; a -> b", durability=durability)
    row = executions.start(workflow.slug, by=ada)
    hand.run_all()
    until_sql_says(row, "interrupted")
    time.sleep(0.05)

    answers.answer(row.execution_id, Answer(), by=ada)
    hand.run_all()

    assert row_of(row, "a").waiting_ms >= 50
    assert_adds_up(row)


def test_a_step_that_waits_held_by_a_person_and_then_for_the_outside_and_then_again_counts_all_of_it(
    hand: Hand,
) -> None:
    ada = author()
    flags = {"interrupt_before": True, "interrupt_after": True}
    row = started(
        {"pause": ("wait", {"external": True, **flags}), "b": template("b")}, "start -> pause; pause -> b", by=ada
    )

    for _ in range(3):
        hand.run_all()
        until_sql_says(row, "interrupted")
        time.sleep(0.03)
        answers.answer(row.execution_id, Answer(), by=ada)
    hand.run_all()

    assert row_of(row, "pause").waiting_ms >= 90
    assert_adds_up(row)


def test_the_time_until_the_next_attempt_is_waited_by_the_one_that_failed(hand: Hand) -> None:
    def at_second(context: StepContext) -> Completed:
        if context.attempt == 1:
            raise UpstreamError("not yet")
        return Completed({"output": "x"})

    row = started({"a": template(failure={"retry": {"attempts": 2, "initial": 0.2, "jitter": 0.0}})}, "start -> a")
    worker = worker_that(at_second)
    run_with(worker, hand.take())
    time.sleep(0.25)
    run_all_with(worker, hand)

    assert 200 <= row_of(row, "a").waiting_ms <= 201
    assert row_of(row, "a", 2).waiting_ms is None
    assert_adds_up(row)


def test_a_message_that_was_sent_again_had_been_queued_all_the_time(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    hand.take()
    time.sleep(0.05)

    engine().recovery.sweep_deadlines(clock.now_ms() + 31_000)
    hand.run_all()

    assert row_of(row, "a").queued_ms >= 50
    assert_adds_up(row, within=1 + 2 * ROUNDING)


def test_the_time_of_a_worker_that_died_counts_as_run(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    delivery = hand.take()
    die = worker_that(lambda _: exit_now())
    with pytest.raises(SystemExit):
        run_with(die, delivery)
    time.sleep(0.05)

    hand.redis.zadd(DEADLINES, {delivery.task_id: 0})
    engine().recovery.sweep_deadlines(clock.now_ms() + 3_600_000)
    hand.run_all()

    assert row_of(row, "a").run_ms >= 50
    assert row_of(row, "a", 2).status == "success"
    assert_adds_up(row)


def exit_now() -> Completed:
    raise SystemExit(1)


def test_steps_side_by_side_add_up_to_more_than_the_wall_clock(hand: Hand) -> None:
    row = started({name: template(name) for name in "abc"}, "start -> a; start -> b; start -> c")
    time.sleep(0.05)
    hand.run_all()

    found = time_of(row)

    assert found.wall_ms is not None
    assert found.queued_ms >= 150
    assert found.queued_ms + found.run_ms > found.wall_ms


def test_what_a_step_waited_after_its_row_was_written_is_told_once_however_often_it_is_written(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    hand.run_all()
    facts = {"node_id": "a", "scope": "", "attempt": 1, "waiting_ms": 12.5}

    for _ in range(2):
        journal.write([Entry(row.execution_id, Kind.WAITED, facts)], engine().store)

    waited = select(ExecutionLog.node_id, ExecutionLog.waiting_ms).where(ExecutionLog.waiting_ms.is_not(None))
    assert db.session.execute(waited).all() == [("a", 12.5)]


def test_a_clock_that_is_set_back_makes_no_time_negative() -> None:
    watch = Stopwatch(due_ms=clock.precise_ms() + 9e6, started_ms=clock.precise_ms() + 8e6)

    report = watch.report()

    assert (report.queued_ms, report.resolve_ms, report.run_ms) == (0, 0, 0)


def test_of_an_attempt_without_a_readable_claim_nothing_is_said() -> None:
    assert report_of_lost(None, 5.0) == report_of_lost("1 host/1/2", 5.0) == Report()


def test_moments_are_known_to_the_microsecond() -> None:
    before, moment = clock.now(), clock.precise_ms()

    assert moment == round(moment, 3)
    assert before - timedelta(milliseconds=1) <= type(before).fromtimestamp(moment / 1000, before.tzinfo)
