"""One attempt of a step runs once and reports once, whatever the broker delivers, and however late."""

from pipelit import clock
from pipelit.engine.core.events import StepSucceeded
from pipelit.engine.core.graph import NodeId
from pipelit.engine.core.state import StepId
from pipelit.engine.narrator import Report
from pipelit.engine.runtime import engine
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from pipelit.services import execution_events, executions
from tests.engine.stories import (
    Gate,
    attempts,
    author,
    beside,
    keys_of,
    outcome,
    run_all_with,
    run_with,
    started,
    task_of,
    template,
    worker_that,
)
from tests.support.hand import Hand
from tests.support.product import wait_until


def test_a_second_delivery_leaves_the_running_one_alone(hand: Hand) -> None:
    gate, runs = Gate(), []

    def once(context: StepContext) -> Completed:
        runs.append(context.attempt)
        gate.wait()
        return Completed({"output": "done"})

    worker = worker_that(once)
    row = started({"a": template()}, "start -> a")
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        run_with(worker, delivery)
        gate.opened.set()

    assert runs == [1]
    assert attempts(row, "a") == [(1, "success", None)]
    assert outcome(row).final_output == "done"


def test_a_worker_that_was_taken_for_dead_reports_in_vain(hand: Hand) -> None:
    gate = Gate()

    def slow_at_first(context: StepContext) -> Completed:
        if context.attempt == 1:
            gate.wait()
        return Completed({"output": f"attempt {context.attempt}"})

    worker = worker_that(slow_at_first)
    row = started({"a": template(), "b": template("{{ a.output }}")}, "start -> a; a -> b")
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        worker.lost(task_of(delivery))
        run_with(worker, hand.take())
        gate.opened.set()
    hand.run_all()

    assert outcome(row).final_output == "attempt 2"
    assert attempts(row, "a") == [(1, "failed", "worker_lost"), (2, "success", None)]
    assert attempts(row, "b") == [(1, "success", None)]


def test_a_delivery_after_the_cancel_does_nothing(hand: Hand) -> None:
    ada = author()
    row = started({"a": template("a")}, "start -> a", by=ada)
    delivery = hand.take()
    executions.cancel(row.execution_id, by=ada)

    hand.run(delivery)

    assert outcome(row).status == "cancelled"
    assert [event["type"] for event in execution_events.after(row.execution_id, 0)] == [
        "execution_started",
        "node_status",
        "node_status",
        "execution_cancelled",
    ]
    assert attempts(row, "a") == [(1, "cancelled", "step_cancelled")]


def test_a_cancel_reaches_the_step_that_is_running(hand: Hand) -> None:
    ada, gate = author(), Gate()

    def patient(context: StepContext) -> Completed:
        gate.wait()
        wait_until(context.is_cancelled, "it is told")
        return Completed({"output": "too late"})

    worker = worker_that(patient)
    row = started({"a": template(), "b": template()}, "start -> a; a -> b", by=ada)
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        executions.cancel(row.execution_id, by=ada)
        gate.opened.set()

    assert outcome(row).status == "cancelled"
    assert attempts(row, "a") == [(1, "cancelled", "step_cancelled")]
    assert attempts(row, "b") == []


def test_an_ended_execution_is_remembered_and_begins_no_more(hand: Hand) -> None:
    from pipelit.engine.recovery import start_of

    row = started({"a": template("a")}, "start -> a")
    delivery = hand.waiting()[0]
    hand.run_all()
    assert outcome(row).status == "completed"

    assert not engine().coordinator.start(start_of(outcome(row)))
    hand.run(delivery)

    assert hand.waiting() == []
    assert keys_of(row) == {"meta"}
    assert 0 < engine().redis.ttl(f"pipelit:x:{row.execution_id}:meta") <= 300
    assert attempts(row, "a") == [(1, "success", None)]


def test_an_attempt_that_has_not_begun_yet_is_no_ones_to_claim(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    delivery = hand.take()
    early = [*delivery.args[:2], 2, *delivery.args[3:]]

    hand.run(type(delivery)(delivery.queue, delivery.task_id, delivery.name, early))
    assert engine().store.owner(row.execution_id, StepId(NodeId("a"))) is None
    hand.run(delivery)

    assert outcome(row).status == "completed"


def test_a_claim_whose_answer_was_lost_is_made_again(hand: Hand) -> None:
    started({"a": template("a")}, "start -> a")
    task = task_of(hand.take())
    asked = {"lease_until": clock.now_ms() + 9_000, "event": "{}", "channels": ("none", "none"), "fields": ()}

    answers = [engine().store.claim(task, claim=f"1 {who}", **asked) for who in ("me", "me", "you")]

    assert [type(answer).__name__ for answer in answers] == ["Claim", "Claim", "Taken"]


def test_a_commit_whose_answer_was_lost_is_not_made_again(hand: Hand) -> None:
    row = started({"a": template("a"), "b": template("b")}, "start -> a; a -> b")
    known = engine().store.load(row.execution_id)
    event, report = StepSucceeded(StepId(NodeId("a")), 1), Report(outputs='{"output":"a"}')

    told = [engine().coordinator.tell(row.execution_id, event, report, known=known) for _ in range(2)]
    hand.run_all()

    assert told == [True, False]
    assert (attempts(row, "a"), attempts(row, "b")) == ([(1, "success", None)], [(1, "success", None)])


def test_every_iteration_is_a_step_of_its_own(hand: Hand) -> None:
    keys = []

    def remember(context: StepContext) -> Completed:
        keys.append(context.idempotency_key.partition("/")[2])
        return Completed({"output": context.values["loop"]["item"]})

    worker = worker_that(remember)
    row = started(
        {"each": ("loop", {"items": [1, 2]}), "a": template("{{ loop.item }}")},
        "start -> each; each =body=> a; a =return=> each",
    )
    run_all_with(worker, hand)

    assert keys == ["a/each:0", "a/each:1"]
    assert outcome(row).final_output == {"results": [1, 2]}
