"""Executions from start to end, on real rows, a real server and Celery's real messages."""

import json
from typing import Any

import pytest

from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import PendingTask, WorkflowExecution
from pipelit.services import answers, execution_events, executions
from pipelit.services.answers import Answer
from tests.support.hand import Hand
from tests.support.workflows import admin, build


def outcome(row: WorkflowExecution) -> WorkflowExecution:
    """The execution with its logs, as SQL has it now."""
    db.session.rollback()
    return executions.detail(row.execution_id, by=None)


def statuses(row: WorkflowExecution) -> dict[str, str]:
    return {f"{log.node_id}@{log.scope}" if log.scope else log.node_id: log.status for log in outcome(row).logs}


def output_of(row: WorkflowExecution, node_id: str) -> Any:
    return next(json.loads(log.output) for log in outcome(row).logs if log.node_id == node_id and log.output)


def test_a_chain_runs_step_by_step_and_leaves_its_logs(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "greet": ("template", {"template": "Hello {{ trigger.text }}"}),
            "shout": ("template", {"template": "{{ greet.output | upper }}!"}),
        },
        "start -> greet; greet -> shout",
    )

    row = executions.start(workflow.slug, by=admin(), text="Ada")
    hand.run_all()

    ended = outcome(row)
    assert (ended.status, ended.final_output) == ("completed", "HELLO ADA!")
    assert [(log.node_id, log.status) for log in ended.logs] == [
        ("start", "success"),
        ("greet", "success"),
        ("shout", "success"),
    ]
    assert json.loads(ended.logs[1].input) == {"template": "Hello Ada"}
    assert all(log.duration_ms is not None for log in ended.logs)


def test_celery_sees_the_deterministic_id_of_each_attempt(hand: Hand) -> None:
    workflow = build({"start": ("trigger_manual", {}), "greet": ("template", {"template": "hi"})}, "start -> greet")

    row = executions.start(workflow.slug, by=admin())

    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:greet::a1"]


def test_only_the_taken_branch_runs_and_the_join_gets_its_value(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "choose": (
                "switch",
                {"rules": [{"field": "trigger.payload.vip", "operator": "is_true", "route": "vip"}]},
            ),
            "red": ("template", {"template": "red carpet"}),
            "plain": ("template", {"template": "welcome"}),
            "join": ("merge", {}),
        },
        "start -> choose; choose.vip -> red; choose.default -> plain; red -> join; plain -> join",
    )

    row = executions.start(workflow.slug, by=admin(), payload={"vip": True})
    hand.run_all()

    assert outcome(row).final_output == "red carpet"
    assert statuses(row)["plain"] == "skipped"


def test_events_are_numbered_without_gaps_live_and_after_the_end(hand: Hand) -> None:
    workflow = build({"start": ("trigger_manual", {}), "greet": ("template", {"template": "hi"})}, "start -> greet")
    row = executions.start(workflow.slug, by=admin())
    live = execution_events.after(row.execution_id, 0)
    hand.run_all()

    kept = execution_events.after(row.execution_id, 0)

    assert [event["seq"] for event in kept] == list(range(1, len(kept) + 1))
    assert kept[: len(live)] == live
    assert [event["type"] for event in kept] == [
        "execution_started",
        "node_status",
        "node_status",
        "node_status",
        "execution_completed",
    ]
    assert kept[-1]["data"]["output"] == "hi"


def test_a_loop_collects_the_output_of_its_return_node_in_the_order_of_the_items(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "each": ("loop", {"items": "{{ trigger.payload.names }}", "concurrency": 2}),
            "greet": ("template", {"template": "{{ loop.index + 1 }}/{{ loop.total }} {{ loop.item }}"}),
            "all": ("template", {"template": "{{ each.results | join(', ') }}"}),
        },
        "start -> each; each =body=> greet; greet =return=> each; each -> all",
    )

    row = executions.start(workflow.slug, by=admin(), payload={"names": ["Ada", "Bob", "Cy"]})
    hand.run_all()

    assert outcome(row).final_output == "1/3 Ada, 2/3 Bob, 3/3 Cy"
    assert output_of(row, "each") == {"results": ["1/3 Ada", "2/3 Bob", "3/3 Cy"]}


def test_a_failing_step_fails_the_execution_and_says_why(hand: Hand) -> None:
    workflow = build(
        {"start": ("trigger_manual", {}), "greet": ("template", {"template": "{{ trigger.txt }}"})}, "start -> greet"
    )

    row = executions.start(workflow.slug, by=admin())
    hand.run_all()

    ended = outcome(row)
    assert (ended.status, ended.error_code) == ("failed", "expression_failed")
    assert "greet" in ended.error_message
    assert "'text'" in ended.error_message


def test_an_error_port_leads_on(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "greet": ("template", {"template": "{{ trigger.txt }}", "failure": {"on_error": "continue"}}),
            "sorry": ("template", {"template": "sorry: {{ greet.error.code }}"}),
            "next": ("template", {"template": "never"}),
        },
        "start -> greet; greet!error -> sorry; greet -> next",
    )

    row = executions.start(workflow.slug, by=admin())
    hand.run_all()

    assert outcome(row).final_output == "sorry: expression_failed"
    assert statuses(row) == {"start": "success", "greet": "failed", "sorry": "success", "next": "skipped"}


def test_a_message_delivered_twice_runs_its_step_once(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "a": ("template", {"template": "a"}),
            "b": ("template", {"template": "b"}),
        },
        "start -> a; a -> b",
    )
    row = executions.start(workflow.slug, by=admin())
    first = hand.take()
    assert first is not None

    hand.run(first)
    hand.run(first)
    hand.run_all()
    hand.run(first)

    assert len(outcome(row).logs) == 3
    assert outcome(row).status == "completed"


def test_a_wait_holds_no_worker_and_hands_its_input_on(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "pause": ("wait", {"seconds": 3600}),
            "after": ("template", {"template": "{{ pause.output.text }}"}),
        },
        "start -> pause; pause -> after",
    )
    row = executions.start(workflow.slug, by=admin(), payload={"text": "still here"})
    hand.run_all()
    assert outcome(row).status == "running"

    engine().recovery.sweep_deadlines(2**53)
    hand.run_all()

    assert outcome(row).final_output == "still here"


@pytest.mark.parametrize("flag", ["interrupt_before", "interrupt_after"])
def test_an_interrupt_waits_for_a_person(hand: Hand, flag: str) -> None:
    ada = admin()
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "send": ("template", {"template": "sent", flag: True}),
            "after": ("template", {"template": "{{ send.output }} and done"}),
        },
        "start -> send; send -> after",
    )
    row = executions.start(workflow.slug, by=ada)
    hand.run_all()
    assert outcome(row).status == "interrupted"

    answers.answer(row.execution_id, Answer(), by=ada)
    hand.run_all()

    assert outcome(row).final_output == "sent and done"
    assert db.session.query(PendingTask).count() == 0


def test_cancel_stops_what_was_on_its_way(hand: Hand) -> None:
    ada = admin()
    workflow = build({"start": ("trigger_manual", {}), "greet": ("template", {"template": "hi"})}, "start -> greet")
    row = executions.start(workflow.slug, by=ada)

    cancelled = executions.cancel(row.execution_id, by=ada)
    hand.run_all()

    assert cancelled.status == "cancelled"
    assert statuses(row) == {"start": "success", "greet": "cancelled"}


def test_editing_a_workflow_does_not_change_the_execution_in_flight(hand: Hand) -> None:
    ada = admin()
    nodes = {"start": ("trigger_manual", {}), "greet": ("template", {"template": "old"})}
    workflow = build(nodes, "start -> greet")
    row = executions.start(workflow.slug, by=ada)

    from pipelit.services import nodes as node_service

    node_service.update(workflow.slug, "greet", {"config": {"template": "new"}}, by=ada)
    hand.run_all()
    later = executions.start(workflow.slug, by=ada)
    hand.run_all()

    assert (outcome(row).final_output, outcome(later).final_output) == ("old", "new")
    assert outcome(row).version.number + 1 == outcome(later).version.number
