"""Workflows that call workflows: begun once, their end brought back, stopped with whoever waited for them."""

import pytest

from pipelit import clock
from pipelit.engine.keys import DEADLINES
from pipelit.engine.runtime import engine
from pipelit.extensions import db, transaction
from pipelit.models import UserProfile, WorkflowExecution
from pipelit.services import aftermath, answers, executions
from pipelit.services.answers import Answer
from tests.engine.calls import CALL, EDGES, END, callee, calling, children_of, doubling, sleeping
from tests.engine.stories import attempts, author, keys_of, outcome, output_of, started, started_with, template
from tests.support.hand import Hand
from tests.support.workflows import build


def test_what_comes_out_of_a_called_workflow_goes_on_in_the_caller(hand: Hand) -> None:
    doubling()
    row = calling()
    hand.run_all()

    (child,) = children_of(row)
    assert (outcome(row).status, outcome(row).final_output) == ("completed", 42)
    assert output_of(row, "call") == {"output": 42, "execution_id": child.execution_id}
    assert (child.status, child.trigger, child.parent_node_id, child.depth) == ("completed", "workflow", "call", 1)
    assert child.trigger_payload == {"payload": {"n": 21}, "text": ""}
    assert hand.redis.zcard(DEADLINES) == 0
    assert not outcome(child).needs_follow_up


def test_while_the_called_one_runs_nothing_is_held(hand: Hand) -> None:
    sleeping()
    row = calling()
    hand.run_all(until=lambda: not hand.waiting() and not hand.waiting("triggers"))

    assert (outcome(row).status, attempts(row, "call")) == ("running", [])
    assert [child.status for child in children_of(row)] == ["running"]
    assert hand.waiting() == []


def test_what_came_in_is_handed_over_where_no_payload_is_set(hand: Hand) -> None:
    callee({"say": template("{{ called.payload.name }}/{{ called.text }}")}, "called -> say")
    row = started(
        {"call": ("workflow", {"workflow_slug": "callee", "text": "hi"})},
        "start -> call",
        payload={"name": "Ada"},
    )
    hand.run_all()

    assert outcome(row).final_output == "Ada/hi"


def test_a_workflow_is_called_by_its_id_too(hand: Hand) -> None:
    target = doubling()
    row = started({"call": ("workflow", {"subworkflow_id": target.id, "payload": {"n": 2}}), **END}, EDGES)
    hand.run_all()

    assert outcome(row).final_output == 4


def test_a_large_output_comes_back_whole(hand: Hand) -> None:
    callee({"long": template("{{ 'x' * 400000 }}")}, "called -> long")
    row = calling()
    hand.run_all()

    assert len(outcome(row).final_output) == 400_000
    assert keys_of(row) == {"meta"}


def test_in_a_loop_each_iteration_calls_its_own(hand: Hand) -> None:
    doubling()
    row = started(
        {
            "each": ("loop", {"items": [1, 2, 3], "concurrency": 2}),
            "call": ("workflow", {"workflow_slug": "callee", "payload": {"n": "{{ loop.item }}"}}),
        },
        "start -> each; each =body=> call; call =return=> each",
    )
    hand.run_all()

    assert outcome(row).final_output == {"results": [2, 4, 6]}
    assert len(children_of(row)) == 3


def test_without_waiting_the_step_ends_when_the_execution_is_accepted(hand: Hand) -> None:
    sleeping()
    ada = author()
    row = calling(by=ada, wait=False)
    hand.run_all(until=lambda: not hand.waiting() and not hand.waiting("triggers"))

    (child,) = children_of(row)
    assert output_of(row, "call") == {"output": None, "execution_id": child.execution_id}
    assert (outcome(row).status, child.status, child.parent_step) == ("completed", "running", None)


def test_a_failed_child_fails_the_step_and_its_policy_decides(hand: Hand) -> None:
    nodes = {"bad": template("{{ called.payload.nothing }}")}
    callee(nodes, "called -> bad")
    call = ("workflow", {"workflow_slug": "callee", "failure": {"on_error": "continue"}})
    row = started({"call": call, "sorry": template("{{ call.error.message }}")}, "start -> call; call!error -> sorry")
    hand.run_all()

    assert attempts(row, "call") == [(1, "failed", "child_failed")]
    assert "'callee' failed at bad: " in outcome(row).final_output
    assert "expression_failed" in outcome(row).final_output


def test_without_a_policy_the_caller_fails_with_it(hand: Hand) -> None:
    callee({"bad": template("{{ called.payload.nothing }}")}, "called -> bad")
    row = calling()
    hand.run_all()

    ended = outcome(row)
    assert (ended.status, ended.error_code, ended.error_node_id) == ("failed", "child_failed", "call")


def test_a_cancelled_child_is_a_failure_of_the_step(hand: Hand) -> None:
    sleeping()
    ada = author()
    row = calling(by=ada)
    hand.run_all(until=lambda: bool(children_of(row)) and not hand.waiting())

    executions.cancel(children_of(row)[0].execution_id, by=ada)
    hand.run_all()

    assert attempts(row, "call") == [(1, "failed", "child_failed")]
    assert "was cancelled" in outcome(row).error_message


def test_a_child_that_takes_too_long_is_a_failure_of_the_step(hand: Hand) -> None:
    callee({"pause": ("wait", {"seconds": 3600})}, "called -> pause", max_execution_seconds=60)
    row = calling()
    hand.run_all(until=lambda: bool(children_of(row)) and not hand.waiting())

    engine().recovery.sweep_deadlines(clock.now_ms() + 61_000)
    hand.run_all()

    assert "took too long" in outcome(row).error_message


@pytest.mark.parametrize(
    ("slug", "code", "said"),
    [
        ("nobody", "child_refused", "no workflow 'nobody'"),
        ("mute", "child_refused", "give it the trigger"),
        ("broken", "child_refused", "'broken' cannot run"),
        ("foreign", "child_refused", "no workflow 'foreign'"),
    ],
)
def test_what_cannot_be_called_fails_the_step_with_the_reason(hand: Hand, slug: str, code: str, said: str) -> None:
    build({"start": ("trigger_manual", {})}, "", slug="mute")
    callee({"bad": template("{{ nobody.output }}")}, "called -> bad", slug="broken")
    with transaction() as session:
        owner = UserProfile(username="owner")
        session.add(owner)
    callee({"a": template("a")}, "called -> a", slug="foreign", by=owner)
    row = calling(workflow_slug=slug)
    hand.run_all()

    assert (outcome(row).status, attempts(row, "call")) == ("failed", [(1, "failed", code)])
    assert said in outcome(row).error_message
    assert children_of(row) == []


def test_the_owners_rights_decide_and_not_those_of_who_starts_it(hand: Hand) -> None:
    with transaction() as session:
        owner, other = UserProfile(username="owner"), UserProfile(username="other")
        session.add_all([owner, other])
    callee({"a": template("mine")}, "called -> a", slug="mine", by=owner)
    callee({"a": template("theirs")}, "called -> a", slug="theirs", by=other, is_public=True)
    ada = author()
    ends = []
    for slug in ("mine", "theirs"):
        workflow = build(
            {"start": ("trigger_manual", {}), "call": ("workflow", {"workflow_slug": slug})}, "start -> call", by=owner
        )
        row = executions.start(workflow.slug, by=ada)
        hand.run_all()
        ends.append((outcome(row).status, outcome(row).error_code))

    assert ends == [("completed", None), ("failed", "child_refused")]


def test_a_workflow_that_calls_itself_without_end_is_told_so(hand: Hand) -> None:
    callee({"again": ("workflow", {"workflow_slug": "callee"})}, "called -> again")
    row = calling()
    hand.run_all()

    deepest = db.session.query(WorkflowExecution).filter_by(depth=10).one()
    assert db.session.query(WorkflowExecution).count() == 11
    assert (outcome(deepest).error_code, outcome(row).status) == ("depth_exceeded", "failed")
    said = outcome(deepest).error_message
    assert "10 times in a row, which is the limit (PIPELIT_CALL_DEPTH)" in said
    assert f"{row.workflow.slug} → callee → callee" in said
    # Everybody up to the first caller says the same, once.
    assert {outcome(each).error_message for each in db.session.query(WorkflowExecution).all()} == {said}
    assert outcome(row).error_code == "depth_exceeded"


def test_with_the_caller_everything_it_waits_for_is_cancelled_down_to_the_last(hand: Hand) -> None:
    sleeping("deepest")
    callee({"down": ("workflow", {"workflow_slug": "deepest"})}, "called -> down")
    ada = author()
    row = calling(by=ada)
    hand.run_all(until=lambda: db.session.query(WorkflowExecution).count() == 3 and not hand.waiting())

    executions.cancel(row.execution_id, by=ada)
    hand.run_all()

    engine().drain_journal()
    db.session.rollback()
    assert {each.status for each in db.session.query(WorkflowExecution)} == {"cancelled"}
    assert hand.redis.zcard(DEADLINES) == 0
    aftermath.sweep(clock.now())
    assert not db.session.query(WorkflowExecution).filter_by(needs_follow_up=True).count()


def test_what_was_not_waited_for_outlives_its_caller(hand: Hand) -> None:
    sleeping()
    ada = author()
    row = started(
        {"call": ("workflow", {"workflow_slug": "callee", "wait": False}), "pause": ("wait", {"external": True})},
        "start -> call; call -> pause",
        by=ada,
    )
    hand.run_all(until=lambda: outcome(row).status == "interrupted")

    executions.cancel(row.execution_id, by=ada)
    hand.run_all(until=lambda: not hand.waiting("triggers"))

    assert [child.status for child in children_of(row)] == ["running"]


def test_the_callers_time_limit_ends_what_it_waits_for(hand: Hand) -> None:
    sleeping()
    workflow = build({"start": ("trigger_manual", {}), **CALL}, "start -> call", max_execution_seconds=60)
    row = started_with(workflow)
    hand.run_all(until=lambda: bool(children_of(row)) and not hand.waiting())

    engine().recovery.sweep_deadlines(clock.now_ms() + 61_000)
    hand.run_all()

    assert (outcome(row).status, children_of(row)[0].status) == ("timed_out", "cancelled")


def test_a_child_that_its_iteration_no_longer_waits_for_is_stopped(hand: Hand) -> None:
    sleeping()
    row = started(
        {
            "each": ("loop", {"items": [1, {}], "concurrency": 2, "failure": {"on_error": "continue"}}),
            "pick": ("switch", {"rules": [{"field": "loop.item", "operator": "equals", "value": 1, "route": "call"}]}),
            "call": CALL["call"],
            "hold": ("wait", {"external": True}),
            "bad": template("{{ loop.item.nothing }}"),
            "sorry": ("wait", {"external": True}),
        },
        "start -> each; each =body=> pick; pick.call -> call; pick.default -> hold; hold -> bad; "
        "call =return=> each; bad =return=> each; each!error -> sorry",
    )
    hand.run_all(until=lambda: bool(children_of(row)) and outcome(row).status == "interrupted" and not hand.waiting())
    answers.answer(row.execution_id, Answer(), by=author("bob"))
    hand.run_all(until=lambda: children_of(row)[0].status == "cancelled")

    assert outcome(row).status == "interrupted"
