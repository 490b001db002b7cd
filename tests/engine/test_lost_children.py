"""Messages lost or delivered twice between a caller and what it called, and callers that are gone."""

import pytest

from pipelit import clock
from pipelit.engine.keys import TaskId
from pipelit.engine.runtime import engine
from pipelit.errors import WrongState
from pipelit.extensions import db, transaction
from pipelit.models import WorkflowExecution
from pipelit.services import aftermath, ancestry, answers, children, executions
from pipelit.services.answers import Answer
from tests.engine.calls import callee, calling, children_of, doubling, sleeping
from tests.engine.stories import attempts, author, outcome, started, template
from tests.support.hand import Hand


def test_whatever_comes_twice_the_child_is_begun_once_and_its_end_told_once(hand: Hand) -> None:
    doubling()
    row = calling()
    hand.deliver()
    (attend,) = hand.waiting("triggers")

    for _ in range(3):
        hand.run(attend)
    hand.run_all()
    (child,) = children_of(row)
    hand.run(attend)
    with transaction():
        db.session.get(WorkflowExecution, child.execution_id).needs_follow_up = True
    for _ in range(2):
        aftermath.follow_up(child.execution_id)

    assert [log.attempt for log in outcome(row).logs if log.node_id == "call"] == [1]
    assert outcome(row).final_output == 42


def test_a_caller_taken_over_after_its_child_was_begun_finds_the_same_child(hand: Hand) -> None:
    """The id follows from the step, so that another attempt, or a rebuilt state, asks for the very same execution."""
    doubling()
    row = calling()
    task = TaskId(row.execution_id, ancestry.StepId("call"), 1)
    first = ancestry.child_id(task.execution_id, task.step)
    hand.run_all()

    assert [child.execution_id for child in children_of(row)] == [first]


def test_a_lost_message_to_begin_a_child_is_made_up_for(hand: Hand) -> None:
    doubling()
    row = calling()
    hand.deliver()
    hand.redis.delete("triggers")
    hand.run_all()
    assert children_of(row) == []

    engine().recovery.sweep_deadlines(clock.now_ms() + 61_000)
    hand.run_all()

    assert outcome(row).final_output == 42


def test_a_lost_message_about_the_end_of_a_child_is_made_up_for_by_the_sweep(hand: Hand) -> None:
    doubling()
    row = calling()
    hand.run_all(until=lambda: any(d.name == "pipelit.executions.follow_up" for d in hand.waiting("triggers")))
    hand.redis.delete("triggers")
    hand.run_all()
    assert outcome(row).status == "running"

    assert aftermath.sweep(clock.now()) == 1
    hand.run_all()

    assert outcome(row).final_output == 42
    assert aftermath.sweep(clock.now()) == 0


def test_the_step_that_waits_asks_by_itself_what_became_of_its_child(hand: Hand) -> None:
    doubling()
    row = calling()
    hand.run_all(until=lambda: any(d.name == "pipelit.executions.follow_up" for d in hand.waiting("triggers")))
    hand.redis.delete("triggers")

    engine().recovery.sweep_deadlines(clock.now_ms() + 61_000)
    hand.run_all()

    assert outcome(row).final_output == 42


def test_a_child_whose_caller_ended_meanwhile_is_not_begun(hand: Hand) -> None:
    doubling()
    ada = author()
    row = calling(by=ada)
    hand.deliver()
    (attend,) = hand.waiting("triggers")
    executions.cancel(row.execution_id, by=ada)

    hand.run(attend)
    with pytest.raises(WrongState), transaction() as session:
        ancestry.attach(session, ancestry.Origin(row.execution_id, "call", ancestry.StepId("call")))

    assert children_of(row) == []


def test_a_child_that_is_begun_while_its_iteration_is_given_up_is_stopped(hand: Hand) -> None:
    """Whoever gives the iteration up looks for the child before it is there; whoever begins it looks once more."""
    sleeping()
    row = started(
        {
            "each": ("loop", {"items": [1, {}], "concurrency": 2, "failure": {"on_error": "continue"}}),
            "pick": ("switch", {"rules": [{"field": "loop.item", "operator": "equals", "value": 1, "route": "call"}]}),
            "call": ("workflow", {"workflow_slug": "callee"}),
            "bad": template("{{ loop.item.nothing }}"),
            "sorry": ("wait", {"external": True}),
        },
        "start -> each; each =body=> pick; pick.call -> call; pick.default -> bad; "
        "call =return=> each; bad =return=> each; each!error -> sorry",
    )
    while not hand.waiting("triggers"):
        hand.deliver()
    assert [delivery.args[1] for delivery in hand.waiting()] == ["bad@each:1"]
    attend = hand.take("triggers")

    def begin_late(about: TaskId, request: children.Request) -> WorkflowExecution | None:
        hand.run_all()
        assert (outcome(row).status, children_of(row)) == ("interrupted", [])
        return children.begin(about, request)

    children.attend(TaskId.parse(attend.args[0]), begin_late)

    assert [child.status for child in children_of(row)] == ["cancelled"]


def test_cancelling_reaches_the_children_although_the_callers_state_is_lost(hand: Hand) -> None:
    sleeping()
    ada = author()
    row = calling(by=ada)
    hand.run_all(until=lambda: bool(children_of(row)) and not hand.waiting())
    for key in hand.redis.keys(f"pipelit:x:{row.execution_id}:*"):
        hand.redis.delete(key)

    executions.cancel(row.execution_id, by=ada)
    hand.run_all()

    assert (outcome(row).status, children_of(row)[0].status) == ("cancelled", "cancelled")


def test_an_ended_child_stays_until_its_end_was_told(hand: Hand) -> None:
    doubling()
    ada = author()
    row = calling(by=ada)
    hand.run_all(until=lambda: any(d.name == "pipelit.executions.follow_up" for d in hand.waiting("triggers")))
    (child,) = children_of(row)

    with pytest.raises(WrongState, match="this very moment"):
        executions.remove([child.execution_id], by=ada)
    hand.run_all()
    executions.remove([child.execution_id], by=ada)

    assert (outcome(row).final_output, children_of(row)) == (42, [])


def test_a_step_that_is_run_again_after_a_loss_keeps_its_child(hand: Hand) -> None:
    """A late message meets a step that does not wait at the moment: it will, and its child goes on meanwhile."""
    sleeping()
    row = calling()
    hand.deliver()
    (attend,) = hand.waiting("triggers")
    hand.run_all(until=lambda: bool(children_of(row)) and not hand.waiting())
    meta, steps = (f"pipelit:x:{row.execution_id}:{part}" for part in ("meta", "steps"))
    hand.redis.hset(steps, "call", '["ready",2,0,0,null,null]')

    hand.run(attend)
    assert [child.status for child in children_of(row)] == ["running"]
    hand.redis.hdel(steps, "call")
    hand.run(attend)
    assert [child.status for child in children_of(row)] == ["running"]
    hand.redis.delete(meta)
    hand.run(attend)

    assert [child.status for child in children_of(row)] == ["running"]


def test_nobody_is_asked_by_mistake(hand: Hand) -> None:
    """A message about a step that never waited for an execution does nothing."""
    row = started({"pause": ("wait", {"external": True})}, "start -> pause")
    hand.run_all()

    children.attend(TaskId(row.execution_id, ancestry.StepId("pause"), 1))

    assert (outcome(row).status, children_of(row)) == ("interrupted", [])


@pytest.mark.parametrize("is_drained", [True, False])
def test_what_waits_for_people_and_children_survives_the_loss_of_the_whole_server(hand: Hand, is_drained: bool) -> None:
    """With and without the journal's last entries: either way the same child ends, and the same person is asked."""
    callee({"ask": ("human_confirmation", {"prompt": "Go?", "approvers": ["bob"]})}, "called -> ask")
    ada = author()
    row = calling(by=ada)
    hand.run_all(until=lambda: bool(children_of(row)) and not hand.waiting() and not hand.waiting("triggers"))
    (child,) = children_of(row)
    if is_drained:
        engine().drain_journal()
    hand.redis.flushall()

    for _ in range(2):
        engine().losses.notice(clock.now_ms())
        engine().losses.search()
        hand.run_all()
    assert [found.execution_id for found in children_of(row)] == [child.execution_id]
    answers.answer(child.execution_id, Answer(), by=ada)
    hand.run_all()

    ended = outcome(row)
    assert (ended.status, ended.final_output["decided_by"]) == ("completed", "ada")
    assert attempts(row, "call")[-1][1:] == ("success", None)
