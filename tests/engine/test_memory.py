"""Steps whose process has no memory left when what they have made is to be committed."""

from typing import Any

import pytest

from pipelit import clock
from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core.events import StepSucceeded
from pipelit.engine.runtime import engine
from pipelit.engine.slices import Committed
from pipelit.engine.worker import Worker
from pipelit.nodes import registry
from tests.engine.stories import attempts, outcome, run_all_with, started_with, template
from tests.support.hand import Hand
from tests.support.workflows import build

NODES = {"start": ("trigger_manual", {}), "a": template("a"), "b": template("{{ a.output }}b")}
EDGES = "start -> a; a -> b"


class Tight(Coordinator):
    """A coordinator in a process whose memory does not suffice for so many successes."""

    def __init__(self, ours: Coordinator, times: int) -> None:
        super().__init__(ours.tools, ours.plans)
        self.times = times

    def commit(self, execution_id: str, event: Any, *args: Any, **options: Any) -> Committed | None:
        if self.times and isinstance(event, StepSucceeded):
            self.times -= 1
            raise MemoryError
        return super().commit(execution_id, event, *args, **options)


def tight_worker(times: int) -> Worker:
    ours = engine().worker
    return Worker(Tight(ours.coordinator, times), ours.http, ours.limits, registry.load())


@pytest.mark.parametrize("placement", ["chained", "local"])
def test_a_step_that_runs_out_of_memory_at_its_commit_fails_and_says_so(hand: Hand, placement: str) -> None:
    row = started_with(build(NODES, EDGES, placement=placement))

    run_all_with(tight_worker(1), hand)

    assert attempts(row, "a") == [(1, "failed", "out_of_memory")]
    assert (outcome(row).status, outcome(row).error_code) == ("failed", "out_of_memory")
    assert "PIPELIT_STEP_MEMORY_MB" in str(outcome(row).error_message)


def test_its_policy_decides_what_follows(hand: Hand) -> None:
    nodes = {**NODES, "a": template("a", failure={"on_error": "default", "default": "instead "})}
    row = started_with(build(nodes, EDGES))

    run_all_with(tight_worker(1), hand)

    assert outcome(row).final_output == "instead b"


def later() -> int:
    """When every lease has expired."""
    return clock.now_ms() + 60_000


def test_a_recorded_result_whose_commit_runs_out_of_memory_is_reported_by_the_next_attempt(hand: Hand) -> None:
    row = started_with(build(NODES, EDGES, durability="sync"))
    with pytest.raises(MemoryError):
        run_all_with(tight_worker(1), hand)
    assert hand.waiting() == []

    engine().recovery.sweep_deadlines(later())
    hand.run_all()

    assert outcome(row).final_output == "ab"


def test_a_recorded_result_that_can_never_be_committed_is_given_up_with_the_reason(hand: Hand) -> None:
    row = started_with(build(NODES, EDGES, durability="sync"))
    worker = tight_worker(3)

    for _ in range(3):
        with pytest.raises(MemoryError):
            run_all_with(worker, hand)
        engine().recovery.sweep_deadlines(later())

    assert hand.waiting() == []
    assert (outcome(row).status, outcome(row).error_code) == ("failed", "worker_lost")
    assert "PIPELIT_STEP_MEMORY_MB" in str(outcome(row).error_message)
