"""Iterations that begin after their steps were recorded: nothing that has ended runs again, nobody is asked again."""

from typing import Any

import pytest

from pipelit.engine.core.state import ExecutionStatus
from pipelit.errors import ConfigError, UpstreamError
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from pipelit.services import answers, executions, retries
from pipelit.services.answers import Answer
from pipelit.services.reuse import Retry
from tests.engine.stories import author, outcome, run_all_with, started, template, worker_that
from tests.support.hand import Hand

LOOP = {"each": ("loop", {"items": [1, 2, 3]})}
TWICE = {"retry": {"attempts": 2, "initial": 0.0, "jitter": 0.0}}


@pytest.mark.parametrize("error", [ConfigError("no"), UpstreamError("not now")], ids=["at once", "retried"])
@pytest.mark.parametrize("policy", ["continue", "default"])
def test_a_step_that_was_given_up_in_a_later_iteration_stays_given_up(
    hand: Hand, policy: str, error: Exception
) -> None:
    runs: list[str] = []

    def act(context: StepContext) -> Completed:
        runs.append(f"{context.node_id}@{context.values['loop']['index']}")
        if context.node_id == "pay":
            raise error
        return Completed({"output": "done"})

    worker, ada = worker_that(act), author()
    pay = template(failure={"on_error": policy, "default": "none", **TWICE})
    edge = "pay!error -> last" if policy == "continue" else "pay -> last"
    row = started(
        {**LOOP, "pay": pay, "last": template()},
        f"start -> each; each =body=> pay; {edge}; last =return=> each",
        by=ada,
    )
    whole(hand, worker)
    first = outcome(row)
    runs.clear()

    again = retries.retry(row.execution_id, Retry(from_node_id="last", scope="each:0"), by=ada)
    whole(hand, worker)

    assert runs == ["last@0"]
    assert (outcome(again).status, outcome(again).final_output) == ("completed", first.final_output)


@pytest.mark.parametrize("flag", ["interrupt_before", "interrupt_after"])
def test_who_has_answered_in_a_later_iteration_is_not_asked_again(hand: Hand, flag: str) -> None:
    ada = author()
    nodes = {**LOOP, "ask": template("{{ loop.item }}", **{flag: True}), "last": template("{{ ask.output }}!")}
    row = started(nodes, "start -> each; each =body=> ask; ask -> last; last =return=> each", by=ada)
    for _ in range(3):
        hand.run_all()
        outcome(row)
        answers.answer(row.execution_id, Answer(data=edit(flag)), by=ada)
    hand.run_all()
    first = outcome(row)
    assert first.status == ExecutionStatus.COMPLETED

    again = retries.retry(row.execution_id, Retry(from_node_id="last", scope="each:0"), by=ada)
    hand.run_all()

    assert (outcome(again).status, outcome(again).final_output) == ("completed", first.final_output)


def test_what_a_person_put_in_place_of_settings_holds_in_an_iteration_that_comes_later(hand: Hand) -> None:
    """The second question is answered, and the execution is stopped before the step has run."""
    ada = author()
    nodes = {**LOOP, "ask": template("own", interrupt_before=True), "last": template("{{ ask.output }}!")}
    row = started(nodes, "start -> each; each =body=> ask; ask -> last; last =return=> each", by=ada)
    for text in ("first", "second"):
        hand.run_all()
        outcome(row)
        answers.answer(row.execution_id, Answer(data={"template": text}), by=ada)
    executions.cancel(row.execution_id, by=ada)
    hand.run_all()

    again = retries.retry(row.execution_id, Retry(from_node_id="last", scope="each:0"), by=ada)
    hand.run_all()
    assert outcome(again).status == "interrupted"
    answers.answer(again.execution_id, Answer(data={"template": "third"}), by=ada)
    hand.run_all()

    assert outcome(again).final_output == {"results": ["first!", "second!", "third!"]}


def edit(flag: str) -> dict[str, Any]:
    """What a person puts in place of the step's settings, or of what it left."""
    return {"template": "edited"} if flag == "interrupt_before" else {"output": "edited"}


def whole(hand: Hand, worker: Any) -> None:
    """Run the steps with this worker, and everything else as usual, until nothing is left."""
    run_all_with(worker, hand)
    hand.run_all()
