"""Loops in loops, and iterations that are held or fail, on real rows, a real server and Celery's real messages."""

from typing import Any

import pytest

from pipelit.extensions import db
from pipelit.models import PendingTask, WorkflowExecution
from pipelit.services import answers, executions
from pipelit.services.answers import Answer
from tests.support.hand import Hand
from tests.support.workflows import admin, build

BROKEN = {"template": "{{ loop.item.name }}"}


def outcome(row: WorkflowExecution) -> WorkflowExecution:
    """The execution with its logs, as SQL has it now."""
    db.session.rollback()
    return executions.detail(row.execution_id, by=None)


def each(body: dict[str, Any], **config: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        "start": ("trigger_manual", {}),
        "each": ("loop", {"items": "{{ trigger.payload.items }}", **config}),
        "name": ("template", body),
    }


def test_the_results_of_an_inner_loop_are_an_item_of_the_outer_one(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "rows": ("loop", {"items": "{{ trigger.payload.rows }}"}),
            "cells": ("loop", {"items": "{{ loop.item }}"}),
            "double": ("template", {"template": "{{ loop.item * 2 }}"}),
            "all": ("set_fields", {"fields": {"rows": "{{ rows.results }}"}}),
        },
        "start -> rows; rows -> all; rows =body=> cells; cells =return=> rows; "
        "cells =body=> double; double =return=> cells",
    )

    row = executions.start(workflow.slug, by=admin(), payload={"rows": [[1, 2], [], [3]]})
    hand.run_all()

    assert outcome(row).status == "completed"
    assert outcome(row).final_output == {"rows": [{"results": [2, 4]}, {"results": []}, {"results": [6]}]}


def test_a_person_is_asked_behind_every_item(hand: Hand) -> None:
    ada = admin()
    workflow = build(
        each({"template": "{{ loop.item }}", "interrupt_after": True}),
        "start -> each; each =body=> name; name =return=> each",
    )
    row = executions.start(workflow.slug, by=ada, payload={"items": ["a", "b"]})

    for _ in range(2):
        hand.run_all()
        assert outcome(row).status == "interrupted"
        answers.answer(row.execution_id, Answer(), by=ada)
    hand.run_all()

    assert outcome(row).final_output == {"results": ["a", "b"]}
    assert db.session.query(PendingTask).count() == 0


@pytest.mark.parametrize(
    ("on_error", "results"),
    [("continue", [None, "b"]), ("collect", ["expression_failed", "b"])],
)
def test_an_item_that_fails_leaves_null_or_its_error(hand: Hand, on_error: str, results: list[Any]) -> None:
    workflow = build(each(BROKEN, on_error=on_error), "start -> each; each =body=> name; name =return=> each")

    row = executions.start(workflow.slug, by=admin(), payload={"items": ["a", {"name": "b"}]})
    hand.run_all()

    kept = outcome(row).final_output["results"]
    assert [item["error_code"] if isinstance(item, dict) else item for item in kept] == results


def test_a_default_value_is_an_items_result(hand: Hand) -> None:
    body = {**BROKEN, "failure": {"on_error": "default", "default": "nobody"}}
    workflow = build(each(body), "start -> each; each =body=> name; name =return=> each")

    row = executions.start(workflow.slug, by=admin(), payload={"items": ["a", {"name": "b"}]})
    hand.run_all()

    assert outcome(row).final_output == {"results": ["nobody", "b"]}


def test_a_loop_that_stops_goes_on_by_its_own_error_port(hand: Hand) -> None:
    nodes = each(BROKEN, concurrency=2, failure={"on_error": "continue"})
    workflow = build(
        {**nodes, "sorry": ("template", {"template": "sorry"})},
        "start -> each; each =body=> name; name =return=> each; each!error -> sorry",
    )

    row = executions.start(workflow.slug, by=admin(), payload={"items": [{"name": "a"}, "b", {"name": "c"}]})
    hand.run_all()

    assert (outcome(row).status, outcome(row).final_output) == ("completed", "sorry")
