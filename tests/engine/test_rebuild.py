"""The server loses everything, or comes back with less: executions go on from what SQL remembers of them."""

import json
from typing import Any

import pytest
from sqlalchemy import update

from pipelit import clock
from pipelit.engine.keys import DEADLINES, running_key
from pipelit.engine.recovery import start_of
from pipelit.engine.runtime import engine
from pipelit.errors import UpstreamError
from pipelit.extensions import db, transaction
from pipelit.models import PendingTask, Workflow, WorkflowExecution
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from pipelit.services import answers, execution_events
from pipelit.services.answers import Answer
from tests.engine.losses import CHAIN, LOOP, LOOPED, lose, restore
from tests.engine.stories import (
    Gate,
    attempts,
    author,
    beside,
    outcome,
    output_of,
    run_with,
    started,
    started_with,
    task_of,
    template,
    worker_that,
)
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.support.workflows import build

UNSAFE = {"failure": {"safe_to_retry": False}}


def test_an_execution_goes_on_behind_the_last_step_that_was_recorded(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c")
    hand.deliver()
    lose(hand)

    assert restore(hand) == 1
    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:b::a1"]
    hand.run_all()

    assert (outcome(row).status, outcome(row).final_output) == ("completed", "abc")
    assert [(log.node_id, log.attempt, log.status) for log in outcome(row).logs] == [
        ("start", 0, "success"),
        ("a", 1, "success"),
        ("b", 1, "success"),
        ("c", 1, "success"),
    ]
    assert hand.redis.zcard(DEADLINES) == 0


def test_what_the_journal_had_not_brought_to_sql_runs_again_under_the_same_key(hand: Hand) -> None:
    keys: list[str] = []

    def note(context: StepContext) -> Completed:
        keys.append(context.idempotency_key)
        return Completed({"output": "x"})

    worker = worker_that(note)
    row = started({"a": template()}, "start -> a")
    engine().drain_journal()
    run_with(worker, hand.take())
    lose(hand, is_drained=False)

    restore(hand)
    run_with(worker, hand.take())

    assert keys == [f"{row.execution_id}/a/"] * 2
    assert attempts(row, "a") == [(1, "success", None)]
    assert outcome(row).status == "completed"


def test_a_loop_goes_on_with_the_items_that_are_left(hand: Hand) -> None:
    workflow = build({"start": ("trigger_manual", {}), **LOOP}, LOOPED)
    row = started_with(workflow, payload={"names": ["Ada", "Bob", "Cy", "Di", "Eve"]})
    for _ in range(4):
        hand.deliver()
    lose(hand)

    restore(hand)
    seen = len(hand.delivered)
    hand.run_all()

    again = [delivery.task_id.split(":", 1)[1] for delivery in hand.delivered[seen:] if delivery.queue == "default"]
    assert [task for task in again if task.startswith("greet")] == ["greet:each:3:a1", "greet:each:4:a1"]
    assert outcome(row).final_output == "hi Ada, hi Bob, hi Cy, hi Di, hi Eve"
    assert len([log for log in outcome(row).logs if log.node_id == "greet"]) == 5


def test_a_loop_that_had_ended_is_not_gone_through_again(hand: Hand) -> None:
    workflow = build({"start": ("trigger_manual", {}), **LOOP}, LOOPED)
    row = started_with(workflow, payload={"names": ["Ada", "Bob"]})
    for _ in range(3):
        hand.deliver()
    lose(hand)

    restore(hand)

    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:all::a1"]
    hand.run_all()
    assert outcome(row).final_output == "hi Ada, hi Bob"


def test_a_loop_whose_end_was_lost_and_that_was_the_last_of_an_iteration_ends_all_the_same(hand: Hand) -> None:
    nodes = {
        "outer": ("loop", {"items": ["Ada", "Bob"]}),
        "inner": ("loop", {"items": ["hi", "bye"]}),
        "say": template("{{ loop.item }} {{ loop.parent.item }}"),
    }
    edges = "start -> outer; outer =body=> inner; inner =body=> say; say =return=> inner; inner =return=> outer"
    row = started_with(build({"start": ("trigger_manual", {}), **nodes}, edges, durability="sync"))
    engine().drain_journal()
    # Results of steps are in SQL at once; that the inner loop, and with it the iteration, is over is in the journal.
    for _ in range(4):
        hand.deliver()
    lose(hand, is_drained=False)

    assert restore(hand) == 1
    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:inner:outer:1:a1"]
    hand.run_all()

    said = [{"results": [f"{word} {name}" for word in ("hi", "bye")]} for name in ("Ada", "Bob")]
    assert outcome(row).final_output == {"results": said}
    assert attempts(row, "inner") == [(1, "success", None)] * 2
    (first, second) = [log for log in outcome(row).logs if log.node_id == "inner"]
    assert (first.input, first.run_ms is None) == (second.input, False)


@pytest.mark.parametrize("done", [99, 100, 101, 230])
def test_a_long_loop_goes_on_at_its_page(hand: Hand, done: int) -> None:
    workflow = build({"start": ("trigger_manual", {}), **LOOP}, LOOPED)
    names = [f"n{index}" for index in range(240)]
    row = started_with(workflow, payload={"names": names})
    for _ in range(1 + done):
        hand.deliver()
    lose(hand)

    restore(hand)
    hand.run_all()

    assert outcome(row).final_output == ", ".join(f"hi {name}" for name in names)
    assert len([log for log in outcome(row).logs if log.node_id == "greet"]) == len(names)


def test_a_wait_ends_when_it_would_have(hand: Hand) -> None:
    nodes = {"pause": ("wait", {"seconds": 3600}), "after": template("{{ pause.output.text }}")}
    row = started(nodes, "start -> pause; pause -> after", payload={"text": "still here"})
    hand.run_all()
    (before,) = [score for _, score in hand.redis.zrange(DEADLINES, 0, -1, withscores=True)]
    lose(hand)

    restore(hand)

    assert [score for _, score in hand.redis.zrange(DEADLINES, 0, -1, withscores=True)] == [before]
    assert hand.waiting() == []
    engine().recovery.sweep_deadlines(2**53)
    hand.run_all()
    assert outcome(row).final_output == "still here"


@pytest.mark.parametrize("flag", ["interrupt_before", "interrupt_after"])
def test_who_was_asked_is_asked_still_and_not_twice(hand: Hand, flag: str) -> None:
    ada = author()
    nodes = {"send": template("sent", **{flag: True}), "after": template("{{ send.output }} and done")}
    row = started(nodes, "start -> send; send -> after", by=ada)
    hand.run_all()
    engine().drain_journal()
    question = db.session.query(PendingTask).one().task_id
    lose(hand)

    restore(hand)
    engine().drain_journal()

    db.session.rollback()
    assert (outcome(row).status, db.session.query(PendingTask).one().task_id) == ("interrupted", question)
    answers.answer(row.execution_id, Answer(), by=ada)
    lose(hand)
    restore(hand)
    assert db.session.query(PendingTask).count() == 0
    hand.run_all()
    assert outcome(row).final_output == "sent and done"


def test_a_retry_keeps_its_time_and_its_count(hand: Hand) -> None:
    def refuse(context: StepContext) -> Completed:
        if context.attempt < 3:
            raise UpstreamError("not now")
        return Completed({"output": f"attempt {context.attempt}"})

    worker = worker_that(refuse)
    row = started({"a": template(failure={"retry": {"attempts": 3, "initial": 20, "jitter": 0}})}, "start -> a")
    run_with(worker, hand.take())
    hand.redis.delete("default")
    lose(hand)

    restore(hand)

    delayed = hand.take()
    assert delayed.args[3] <= clock.now_ms() + 20_000
    run_with(worker, delayed)
    lose(hand)
    restore(hand)
    # The second delay is longer than what gets a message at once.
    assert hand.waiting() == []
    engine().recovery.sweep_deadlines(clock.now_ms() + 60_000)
    run_with(worker, hand.take())
    assert [number for number, _, _ in attempts(row, "a")] == [1, 2, 3]
    assert (outcome(row).status, outcome(row).final_output) == ("completed", "attempt 3")


def test_a_step_that_may_have_run_and_is_not_safe_to_repeat_is_given_up(hand: Hand) -> None:
    row = started({"a": template("a"), "pay": template("p", **UNSAFE)}, "start -> a; a -> pay")
    hand.deliver()
    lose(hand)

    restore(hand)
    hand.run_all()

    assert attempts(row, "pay") == [(1, "failed", "worker_lost")]
    assert (outcome(row).status, outcome(row).error_code) == ("failed", "worker_lost")


def test_a_step_that_is_not_safe_to_repeat_does_not_run_twice_behind_one_that_does(hand: Hand) -> None:
    ran = []

    def noted(context: StepContext) -> Completed:
        ran.append(context.node_id)
        return Completed({"output": context.node_id})

    worker = worker_that(noted)
    row = started({"a": template("a"), "pay": template("p", **UNSAFE)}, "start -> a; a -> pay")
    engine().drain_journal()
    for _ in range(2):
        run_with(worker, hand.take())
    lose(hand, is_drained=False)

    restore(hand)
    while delivery := hand.take():
        run_with(worker, delivery)

    assert ran == ["a", "pay", "a"]
    assert attempts(row, "pay") == [(1, "failed", "worker_lost")]


@pytest.mark.parametrize("config", [{}, UNSAFE], ids=["safe", "unsafe"])
def test_a_step_that_runs_while_everything_is_lost_ends_as_the_attempt_it_was(hand: Hand, config: dict) -> None:
    gate, runs = Gate(), []

    def slow(context: StepContext) -> Completed:
        runs.append(context.attempt)
        gate.wait()
        assert not context.is_cancelled()
        return Completed({"output": "done"})

    worker = worker_that(slow, lease=6.0)
    row = started({"a": template("", **config), "b": template("{{ a.output }}!")}, "start -> a; a -> b")
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        lose(hand)
        wait_until(lambda: hand.redis.exists(running_key(task_of(delivery))), "the worker says what it runs")
        restore(hand)
        assert hand.waiting() == []
        gate.opened.set()
    hand.run_all()

    assert runs == [1]
    assert attempts(row, "a") == [(1, "success", None)]
    assert outcome(row).final_output == "done!"


def test_what_a_step_returns_after_the_loss_is_kept_until_its_execution_is_back(hand: Hand) -> None:
    gate, runs = Gate(), []

    def slow(context: StepContext) -> Completed:
        runs.append(context.attempt)
        gate.wait()
        return Completed({"output": "done"})

    worker = worker_that(slow)
    row = started({"a": template(), "b": template("{{ a.output }}!")}, "start -> a; a -> b")
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        lose(hand)
        gate.opened.set()
        wait_until(lambda: hand.redis.exists(running_key(task_of(delivery))), "the worker says what it has run")
        restore(hand)
    hand.run_all()

    assert runs == [1]
    assert outcome(row).final_output == "done!"


def test_events_are_numbered_on_above_all_that_were_told(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c")
    hand.deliver()
    last = execution_events.after(row.execution_id, 0)[-1]["seq"]
    lose(hand)

    restore(hand)
    hand.run_all()
    engine().drain_journal()

    told = execution_events.after(row.execution_id, 0)
    assert told[0]["seq"] > last
    assert [event["seq"] for event in told] == list(range(told[0]["seq"], told[0]["seq"] + len(told)))
    assert told[-1]["type"] == "execution_completed"


def test_large_and_small_outputs_are_read_as_before(hand: Hand) -> None:
    nodes = {"a": template("{{ trigger.text }}"), "b": template("{{ a.output | length }}")}
    row = started(nodes, "start -> a; a -> b", text="x" * 300_000)
    hand.deliver()
    lose(hand)

    restore(hand)
    hand.run_all()

    assert outcome(row).final_output == 300_000
    assert "$blob" in json.dumps(output_of(row, "a"))


KEPT = {"max_execution_seconds": 3600, "durability": "sync", "placement": "local"}
NOW = {"max_execution_seconds": 60, "durability": "async", "placement": "chained"}


def test_editing_a_workflow_changes_nothing_of_an_execution_that_is_rebuilt(hand: Hand) -> None:
    row = started_with(build({"start": ("trigger_manual", {}), "a": template("a")}, "start -> a", **KEPT))
    before = held_to(hand, row)
    edit(row, NOW)
    lose(hand)

    restore(hand)

    assert held_to(hand, row) == before
    assert before == ("sync", "local", True)


def test_what_was_accepted_begins_with_what_held_then(hand: Hand) -> None:
    """As if the broker had been away: the row is there, the working state is not."""
    row = started_with(build({"start": ("trigger_manual", {}), "a": template("a")}, "start -> a", **KEPT))
    before = held_to(hand, row)
    edit(row, NOW)
    hand.redis.flushall()

    assert engine().coordinator.start(start_of(outcome(row)))

    assert held_to(hand, row) == before


def edit(row: WorkflowExecution, about: dict[str, Any]) -> None:
    with transaction() as session:
        session.execute(update(Workflow).where(Workflow.id == row.workflow_id).values(about))


def held_to(hand: Hand, row: WorkflowExecution) -> tuple[str, str, bool]:
    """Durability and placement of a live execution, and whether it may run for an hour."""
    loaded = engine().store.load(row.execution_id)
    assert loaded is not None
    until = hand.redis.zscore(DEADLINES, row.execution_id)
    return loaded[1].durability, loaded[1].placement, until is not None and until > clock.now_ms() + 1_800_000
