"""Real processes die while executions wait, and nothing is lost."""

import pytest

from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import PendingTask, UserProfile, WorkflowExecution
from pipelit.services import answers, executions
from pipelit.services.answers import Answer
from tests.support.crew import Crew
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.support.workflows import build

CALLEE = {"called": ("trigger_workflow", {}), "pause": ("wait", {"external": True})}


def open_questions() -> set[str]:
    engine().drain_journal()
    db.session.rollback()
    return {task.node_id for task in db.session.query(PendingTask)}


@pytest.mark.parametrize("dies", ["workers", "everything"])
def test_everything_dies_while_an_execution_waits_and_it_goes_on_all_the_same(crew: Crew, dies: str) -> None:
    build(CALLEE, "called -> pause", slug="callee")
    victims = crew.start("steps", "system")
    row = crew.run(
        {
            "ask": ("human_confirmation", {"prompt": "Go?", "form": [{"name": "why"}]}),
            "call": ("workflow", {"workflow_slug": "callee"}),
            "end": ("template", {"template": "{{ ask.data.why }} {{ call.output }}"}),
        },
        "start -> ask; start -> call; ask.approved -> end; call -> end",
    )
    wait_until(lambda: open_questions() == {"ask", "pause"}, "both wait", or_else=crew.said)

    for victim in victims:
        victim.kill()
    if dies == "everything":
        crew.kill_server()
        crew.start_server()
    ada = db.session.get(UserProfile, row.user_profile_id)
    child = db.session.query(WorkflowExecution).filter_by(parent_execution_id=row.execution_id).one()
    answers.answer(row.execution_id, Answer(data={"why": "because"}), by=ada)
    answers.answer(child.execution_id, Answer(data="it was said"), by=ada)
    crew.start("steps", "system")
    ended = crew.wait_for(row)

    assert ended.final_output == "because it was said"
    assert crew.attempts(row, "ask") == crew.attempts(row, "call") == [(1, "success", None)]
    assert [found.execution_id for found in executions.children(row.execution_id)] == [child.execution_id]


def test_a_failure_is_reported_by_real_workers_and_a_cancel_reaches_the_last_child(crew: Crew) -> None:
    build(CALLEE, "called -> pause", slug="callee")
    crew.start("steps", "system")
    failing = crew.run(
        {
            "bad": ("template", {"template": "{{ trigger.payload.nothing }}"}),
            "oops": ("trigger_error", {}),
            "tell": ("template", {"template": "{{ oops.error.node_id }}"}),
        },
        "start -> bad; oops -> tell",
        trigger_node_id="start",
    )
    waiting = crew.run({"call": ("workflow", {"workflow_slug": "callee"})}, "start -> call")
    wait_until(lambda: open_questions() == {"pause"}, "the child waits", or_else=crew.said)

    executions.cancel(waiting.execution_id, by=None)
    crew.wait_for(failing, "failed")
    (child,) = executions.children(waiting.execution_id)
    crew.wait_for(child, "cancelled")

    def told() -> list[str]:
        db.session.rollback()
        return [each.final_output for each in db.session.query(WorkflowExecution).filter_by(trigger="error")]

    wait_until(lambda: told() == ["bad"], "the failure is reported", or_else=crew.said)


def test_a_child_that_was_accepted_and_not_started_starts_later_and_once(crew: Crew, crew_hand: Hand) -> None:
    """The process that begins the child dies between its row and its start, as if the broker had not been there."""
    build({"called": ("trigger_workflow", {}), "say": ("template", {"template": "hi"})}, "called -> say", slug="callee")
    row = crew.run({"call": ("workflow", {"workflow_slug": "callee"})}, "start -> call")
    crew_hand.deliver()
    attend = crew_hand.take("triggers")
    assert attend is not None
    crew_hand.run(attend)
    child = executions.children(row.execution_id)[0]
    for key in crew_hand.redis.keys(f"pipelit:x:{child.execution_id}:*"):
        crew_hand.redis.delete(key)
    crew_hand.redis.delete("default", "triggers", "pipelit:journal")

    crew.start("steps", "system")
    ended = crew.wait_for(row)

    assert ended.final_output == "hi"
    assert crew.attempts(child, "say") == [(1, "success", None)]
