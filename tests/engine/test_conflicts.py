"""Steps that end at the same moment: every transition is made from the state as it is, none is lost."""

import threading

import pytest

from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from tests.engine.stories import PATIENCE, attempts, beside, outcome, run_with, started, template, worker_that
from tests.support.hand import Hand


@pytest.mark.parametrize("branches", [2, 8])
def test_branches_that_end_together_all_get_through(hand: Hand, branches: int) -> None:
    together = threading.Barrier(branches)

    def meet(context: StepContext) -> Completed:
        together.wait(PATIENCE)
        return Completed({"output": context.node_id})

    names = [f"b{number}" for number in range(branches)]
    worker = worker_that(meet)
    row = started(
        {name: template() for name in names} | {"join": ("merge", {}), "end": template("{{ join.output | length }}")},
        "; ".join(f"start -> {name}; {name} -> join" for name in names) + "; join -> end",
    )
    deliveries = [hand.take() for _ in names]
    with beside(hand, *(lambda delivery=delivery: run_with(worker, delivery) for delivery in deliveries)):
        pass

    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:join::a1"]
    hand.run_all()
    assert outcome(row).final_output == branches
    assert [attempts(row, name) for name in names] == [[(1, "success", None)]] * branches


def test_the_last_two_iterations_of_a_loop_may_end_together(hand: Hand) -> None:
    together = threading.Barrier(2)

    def meet(context: StepContext) -> Completed:
        together.wait(PATIENCE)
        return Completed({"output": context.values["loop"]["index"]})

    worker = worker_that(meet)
    row = started(
        {
            "each": ("loop", {"items": "{{ trigger.payload.items }}", "concurrency": 2}),
            "a": template("{{ loop.index }}"),
        },
        "start -> each; each =body=> a; a =return=> each",
        payload={"items": ["x", "y", "z", "w"]},
    )
    hand.deliver()
    while pair := [delivery for delivery in (hand.take(), hand.take()) if delivery]:
        with beside(hand, *(lambda delivery=delivery: run_with(worker, delivery) for delivery in pair)):
            pass

    assert outcome(row).final_output == {"results": [0, 1, 2, 3]}
    assert len(attempts(row, "each")) == 1
    assert len(attempts(row, "a")) == 4


def test_an_answer_and_a_cancel_at_the_same_moment_end_the_execution_once(hand: Hand) -> None:
    from pipelit.engine.core.events import Cancelled
    from pipelit.engine.runtime import engine

    together = threading.Barrier(2)

    def meet(_context: StepContext) -> Completed:
        together.wait(PATIENCE)
        return Completed({"output": "done"})

    worker = worker_that(meet)
    row = started({"a": template()}, "start -> a")
    delivery = hand.take()

    def cancel() -> None:
        together.wait(PATIENCE)
        engine().coordinator.tell(row.execution_id, Cancelled())

    with beside(hand, lambda: run_with(worker, delivery), cancel):
        pass

    entries = [fields for _, fields in hand.redis.xrange("pipelit:journal")]
    assert len([entry for entry in entries if entry["k"] == "ended"]) == 1
    assert outcome(row).status in {"completed", "cancelled"}
