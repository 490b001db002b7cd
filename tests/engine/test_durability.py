"""Workflows whose results are in SQL before anything follows from them."""

import pytest

from pipelit import clock
from pipelit.engine.core.events import StepSucceeded
from pipelit.engine.keys import running_key
from pipelit.engine.runtime import engine
from pipelit.engine.store import Meta
from pipelit.errors import ConfigError
from pipelit.extensions import db
from pipelit.models import ExecutionLog, WorkflowExecution
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from tests.engine.losses import break_connection, lose, restore
from tests.engine.stories import (
    Gate,
    attempts,
    beside,
    outcome,
    run_all_with,
    run_with,
    started_with,
    task_of,
    template,
    worker_that,
)
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.support.workflows import build

NODES = {"start": ("trigger_manual", {}), "a": template("a"), "b": template("{{ a.output }}b")}
UNSAFE = {"failure": {"safe_to_retry": False}}


def careful(**nodes: object) -> WorkflowExecution:
    return started_with(build({**NODES, **nodes}, "start -> a; a -> b", durability="sync"))  # type: ignore[arg-type]


def recorded(row: WorkflowExecution) -> list[str]:
    """The steps that SQL knows of, the journal not having been written."""
    db.session.rollback()
    logs = db.session.query(ExecutionLog).filter_by(execution_id=row.execution_id).order_by(ExecutionLog.id)
    return [log.node_id for log in logs]


def test_a_result_is_in_sql_before_its_successor_is_sent(hand: Hand) -> None:
    row = careful()

    hand.deliver()

    assert (recorded(row), len(hand.waiting())) == (["a"], 1)
    hand.run_all()
    assert attempts(row, "a") == attempts(row, "b") == [(1, "success", None)]
    assert outcome(row).final_output == "ab"


@pytest.mark.parametrize("config", [{}, UNSAFE], ids=["safe", "unsafe"])
def test_a_step_with_a_result_does_not_run_again_whatever_is_lost(hand: Hand, config: dict) -> None:
    runs: list[str] = []

    def note(context: StepContext) -> Completed:
        runs.append(context.node_id)
        return Completed({"output": context.node_id})

    worker = worker_that(note)
    row = careful(a=template("a", **config))
    run_with(worker, hand.take())
    hand.redis.flushall()

    engine().losses.notice(clock.now_ms())
    start = engine().losses
    assert start.is_older(outcome(row))
    assert start.rebuilder.restore(outcome(row))
    run_all_with(worker, hand)

    assert runs == ["a", "b"]
    assert outcome(row).final_output == "b"


def test_a_worker_that_dies_between_its_row_and_its_commit_leaves_the_result(hand: Hand) -> None:
    """The first attempt writes its row and is never heard of again; the second finds it and reports it."""
    gate, runs = Gate(), []

    def once(context: StepContext) -> Completed:
        runs.append((context.node_id, context.attempt))
        if context.node_id == "a":
            gate.wait()
        return Completed({"output": context.node_id})

    worker = worker_that(once)
    row = careful()
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        # It is taken for dead before it has written anything, so that its commit changes nothing.
        worker.lost(task_of(delivery))
        again = hand.take()
        gate.opened.set()
    run_with(worker, again)
    run_all_with(worker, hand)

    assert runs == [("a", 1), ("b", 1)]
    assert outcome(row).final_output == "b"
    assert (1, "success", None) in attempts(row, "a")


def test_a_workflow_says_how_durable_it_is(hand: Hand) -> None:
    row = careful()

    loaded = engine().store.load(row.execution_id)

    assert loaded is not None
    assert loaded[1].durability == "sync"
    assert Meta(*hand.waiting()[0].args[4]).durability == "sync"
    assert not engine().coordinator.tell(row.execution_id, StepSucceeded(task_of(hand.waiting()[0]).step, 2))


@pytest.mark.parametrize("end", ["output", "fails"])
def test_the_final_failure_of_an_attempt_that_did_not_live_to_tell_is_not_made_again(hand: Hand, end: str) -> None:
    """The first attempt writes that it failed for good and is never heard of again."""
    gate, runs = Gate(), []

    def once(context: StepContext) -> Completed:
        runs.append((context.node_id, context.attempt))
        if context.node_id == "a":
            gate.wait()
            raise ConfigError("never")
        return Completed({"output": context.node_id})

    worker = worker_that(once)
    failure = {"on_error": "default", "default": "none"} if end == "output" else {}
    row = careful(a=template("a", failure=failure))
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        worker.lost(task_of(delivery))
        again = hand.take()
        gate.opened.set()
    run_with(worker, again)
    run_all_with(worker, hand)

    assert runs == [("a", 1), *([("b", 1)] if end == "output" else [])]
    assert outcome(row).status == ("completed" if end == "output" else "failed")


def test_the_attempt_that_succeeded_counts_whatever_was_written_last(hand: Hand) -> None:
    """That the first attempt was lost is written after the second one's result."""
    nodes = {
        "start": ("trigger_manual", {}),
        "each": ("loop", {"items": [1, 2]}),
        "greet": template("hi {{ loop.item }}"),
    }
    row = started_with(build(nodes, "start -> each; each =body=> greet; greet =return=> each", durability="sync"))
    hand.deliver()
    engine().worker.lost(task_of(hand.take()))
    hand.deliver()
    logs = outcome(row).logs
    assert [(log.attempt, log.status) for log in logs if log.node_id == "greet"] == [(2, "success"), (1, "failed")]
    lose(hand)

    restore(hand)
    hand.run_all()

    assert outcome(row).final_output == {"results": ["hi 1", "hi 2"]}


def test_a_worker_whose_connection_to_the_database_breaks_goes_on(hand: Hand) -> None:
    row = careful()
    engine().drain_journal()
    break_connection()

    run_all_with(engine().worker, hand)

    assert (outcome(row).status, outcome(row).final_output) == ("completed", "ab")
    assert attempts(row, "a") == [(1, "success", None)]


def test_a_worker_that_lost_its_connection_keeps_what_it_has_for_an_execution_that_was_lost(hand: Hand) -> None:
    gate, runs = Gate(), []

    def slow(context: StepContext) -> Completed:
        runs.append(context.attempt)
        gate.wait()
        break_connection()
        return Completed({"output": "done"})

    worker = worker_that(slow)
    row = started_with(build({"start": ("trigger_manual", {}), "a": template()}, "start -> a"))
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        lose(hand)
        gate.opened.set()
        wait_until(lambda: hand.redis.exists(running_key(task_of(delivery))), "the worker says what it has run")
        restore(hand)
    hand.run_all()

    assert runs == [1]
    assert (outcome(row).status, outcome(row).final_output) == ("completed", "done")
