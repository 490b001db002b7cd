"""Workflows that hear of the failures of others: once for each, and never of their own."""

from typing import Any

from pipelit import clock
from pipelit.engine.runtime import engine
from pipelit.extensions import db, transaction
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.services import aftermath, executions
from tests.engine.stories import author, outcome, started_with, template
from tests.support.hand import Hand
from tests.support.workflows import Nodes, build

ALARM = {"oops": ("trigger_error", {}), "tell": template("{{ oops.error.node_id }}: {{ oops.error.error_code }}")}
BAD = {"bad": template("{{ trigger.payload.nothing }}")}


def alarm(nodes: Nodes | None = None, edges: str = "oops -> tell", **about: Any) -> Workflow:
    """A workflow that is told of errors."""
    return build({**ALARM, **(nodes or {})}, edges, name="Alarm", **about)


def failing(handler: Workflow | None = None, nodes: Nodes | None = None, edges: str = "start -> bad") -> Workflow:
    """A workflow that fails, with or without somebody to tell."""
    workflow = build({"start": ("trigger_manual", {}), **BAD, **(nodes or {})}, edges)
    if handler is not None:
        with transaction() as session:
            session.get(Workflow, workflow.id).error_handler_workflow_id = handler.id
    db.session.rollback()
    return workflow


def alarms() -> list[WorkflowExecution]:
    engine().drain_journal()
    db.session.rollback()
    return db.session.query(WorkflowExecution).filter_by(trigger="error").all()


def test_the_error_handler_of_a_workflow_is_told_of_its_failure(hand: Hand) -> None:
    row = started_with(failing(alarm()))
    hand.run_all()

    (told,) = alarms()
    error = told.trigger_output["error"]
    assert (told.status, told.final_output) == ("completed", "bad: expression_failed")
    assert (error["execution_id"], error["workflow_slug"]) == (row.execution_id, row.workflow.slug)
    assert (error["status"], error["trigger"], error["node_id"]) == ("failed", "manual", "bad")
    assert "nothing" in error["error"]
    assert error["ended_at"].endswith("Z")
    assert (told.parent_execution_id, told.parent_node_id, told.parent_step) == (row.execution_id, "bad", None)
    assert not outcome(row).needs_follow_up


def test_a_workflow_may_hear_of_its_own_failures(hand: Hand) -> None:
    workflow = failing(nodes=ALARM, edges="start -> bad; oops -> tell")
    started_with(workflow, trigger_node_id="start")
    hand.run_all()

    assert [told.final_output for told in alarms()] == ["bad: expression_failed"]


def test_an_execution_that_takes_too_long_is_reported(hand: Hand) -> None:
    handler = alarm()
    workflow = build(
        {"start": ("trigger_manual", {}), "pause": ("wait", {"seconds": 3600})},
        "start -> pause",
        max_execution_seconds=60,
    )
    with transaction() as session:
        session.get(Workflow, workflow.id).error_handler_workflow_id = handler.id
    started_with(workflow)
    hand.run_all(until=lambda: not hand.waiting())

    engine().recovery.sweep_deadlines(clock.now_ms() + 61_000)
    hand.run_all()

    (told,) = alarms()
    error = told.trigger_output["error"]
    assert (error["status"], error["error_code"], error["node_id"]) == (
        "timed_out",
        "execution_timed_out",
        "pause",
    )
    assert "60 s" in error["error"]


def test_what_was_cancelled_or_went_well_is_not_reported(hand: Hand) -> None:
    handler = alarm()
    ada = author()
    for end in ("cancel", "complete"):
        workflow = failing(handler, {"pause": ("wait", {"external": True})}, "start -> pause")
        row = executions.start(workflow.slug, by=ada)
        hand.run_all()
        if end == "cancel":
            executions.cancel(row.execution_id, by=ada)
        hand.run_all()

    assert alarms() == []


def test_each_failure_is_reported_once_whatever_comes_twice(hand: Hand) -> None:
    row = started_with(failing(alarm()))
    hand.run_all(until=lambda: any(d.name == "pipelit.executions.follow_up" for d in hand.waiting("triggers")))
    follow_up = next(d for d in hand.waiting("triggers") if d.name == "pipelit.executions.follow_up")

    for _ in range(2):
        hand.run(follow_up)
    with transaction() as session:
        session.get(WorkflowExecution, row.execution_id).needs_follow_up = True
    hand.run(follow_up)
    hand.run_all()

    assert len(alarms()) == 1


def test_a_report_whose_message_was_lost_is_made_up_for(hand: Hand) -> None:
    started_with(failing(alarm()))
    hand.run_all(until=lambda: any(d.name == "pipelit.executions.follow_up" for d in hand.waiting("triggers")))
    hand.redis.delete("triggers")
    hand.run_all()
    assert alarms() == []

    aftermath.sweep(clock.now())
    hand.run_all()

    assert [told.status for told in alarms()] == ["completed"]
    assert aftermath.sweep(clock.now()) == 0


def test_an_error_workflow_that_fails_starts_no_other(hand: Hand) -> None:
    last = alarm()
    broken = build({**ALARM, "tell": template("{{ oops.error.colour }}")}, "oops -> tell")
    with transaction() as session:
        session.get(Workflow, broken.id).error_handler_workflow_id = last.id
    started_with(failing(broken))
    hand.run_all()

    assert [(told.workflow_id, told.status) for told in alarms()] == [(broken.id, "failed")]


def test_nor_does_what_an_error_workflow_calls(hand: Hand) -> None:
    callee = build({"called": ("trigger_workflow", {}), "bad": BAD["bad"]}, "called -> bad", slug="callee")
    handler = alarm({"call": ("workflow", {"workflow_slug": "callee"})}, "oops -> tell; tell -> call")
    with transaction() as session:
        session.get(Workflow, callee.id).error_handler_workflow_id = handler.id
    started_with(failing(handler))
    hand.run_all()

    assert [told.status for told in alarms()] == ["failed"]


def test_a_failing_child_is_reported_by_its_own_workflow_and_its_callers_by_theirs(hand: Hand) -> None:
    handler = alarm()
    callee = build({"called": ("trigger_workflow", {}), "bad": BAD["bad"]}, "called -> bad", slug="callee")
    with transaction() as session:
        session.get(Workflow, callee.id).error_handler_workflow_id = handler.id
    started_with(failing(handler, {"call": ("workflow", {"workflow_slug": "callee"})}, "start -> call"))
    hand.run_all()

    assert sorted(told.final_output for told in alarms()) == ["bad: expression_failed", "call: child_failed"]


def test_only_what_the_owner_may_run_is_started_and_only_while_it_is_active(hand: Hand) -> None:
    with transaction() as session:
        other = UserProfile(username="other")
        session.add(other)
    theirs = alarm(by=other, is_public=True)
    resting = alarm()
    with transaction() as session:
        session.get(Workflow, resting.id).is_active = False
    mute = build({"start": ("trigger_manual", {})}, "")
    for handler in (theirs, resting, mute):
        row = started_with(failing(handler))
        hand.run_all()
        assert (outcome(row).status, outcome(row).needs_follow_up) == ("failed", False)

    assert alarms() == []


def test_an_error_workflow_that_cannot_run_keeps_nothing_from_its_end(hand: Hand) -> None:
    broken = build({**ALARM, "tell": template("{{ nobody.output }}")}, "oops -> tell")
    row = started_with(failing(broken))
    hand.run_all()

    assert (alarms(), outcome(row).needs_follow_up) == ([], False)
