"""Outputs too large for the working state are kept in rows, and whoever reads them does not notice."""

import json
from typing import Any

import pytest
from flask import Flask

from pipelit.config import Settings
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models.execution import Blob
from pipelit.services import execution_events
from tests.engine.stories import attempts, outcome, output_of, started, template, worker_that
from tests.support.application import KEYS
from tests.support.hand import Hand

LARGE = "{{ 'x' * 3000 }}"


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Any) -> Settings:
    """An installation that keeps almost nothing in its working state."""
    places = {"PIPELIT_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url, "REDIS_URL": redis_url}
    return Settings.load({**KEYS, **places, "PIPELIT_BLOB_BYTES": "1024"})


def in_redis(execution_id: str) -> int:
    """The longest value of an execution's data."""
    return max(map(len, engine().redis.hvals(f"pipelit:x:{execution_id}:data")))


def test_the_next_step_reads_a_large_output_by_name_and_by_edge(hand: Hand) -> None:
    row = started(
        {
            "a": template(LARGE),
            "length": template("{{ a.output | length }}"),
            "join": ("merge", {}),
            "end": template("{{ length.output }} {{ join.output.a | length }}"),
        },
        "start -> a; a -> length; a -> join; length -> join; join -> end",
    )
    hand.deliver()

    assert in_redis(row.execution_id) < 1024
    assert db.session.query(Blob).filter_by(execution_id=row.execution_id).count() == 1
    hand.run_all()
    assert outcome(row).final_output == "3000 3000"


def test_a_large_output_may_be_the_final_one(hand: Hand) -> None:
    row = started({"a": template(LARGE)}, "start -> a")

    hand.run_all()

    assert outcome(row).final_output == "x" * 3000


def test_a_loop_collects_large_results(hand: Hand) -> None:
    row = started(
        {
            "each": ("loop", {"items": [1, 2]}),
            "a": template("{{ (loop.item | string) * 2000 }}"),
            "end": template("{{ each.results[1][0] }}{{ each.results | map('length') | list | string }}"),
        },
        "start -> each; each =body=> a; a =return=> each; each -> end",
    )

    hand.run_all()

    assert outcome(row).final_output == "2[2000,2000]"
    assert len(outcome(row).logs) == 5


def test_a_large_item_is_an_item_like_any_other(hand: Hand) -> None:
    row = started(
        {
            "list": template("{{ ['y' * 2000, 'z' * 2000] }}"),
            "each": ("loop", {"items": "{{ list.output }}"}),
            "a": template("{{ loop.item | length }}"),
        },
        "start -> list; list -> each; each =body=> a; a =return=> each",
    )

    hand.run_all()

    assert outcome(row).final_output == {"results": [2000, 2000]}


def test_the_log_and_the_event_refer_to_what_they_do_not_hold(hand: Hand) -> None:
    row = started({"a": template(LARGE), "b": template("b")}, "start -> a; a -> b")
    hand.run_all()

    reference = output_of(row, "a")["output"]

    assert reference["bytes"] == 3002
    assert db.session.get(Blob, reference["$blob"]).execution_id == row.execution_id
    shown = [
        e["data"].get("output") for e in execution_events.after(row.execution_id, 0) if e["data"].get("node_id") == "a"
    ]
    assert {"output": reference} in shown


def test_small_outputs_beside_a_large_one_stay_where_they_are(hand: Hand) -> None:
    row = started({"a": ("set_fields", {"fields": {"small": 1, "large": LARGE}})}, "start -> a")
    hand.run_all()

    assert outcome(row).final_output == {"small": 1, "large": "x" * 3000}


def test_a_forged_reference_opens_nothing_of_another_execution(hand: Hand) -> None:
    secret = started({"a": template(LARGE)}, "start -> a")
    hand.run_all()
    known = output_of(secret, "a")["output"]["$blob"]

    from tests.engine.stories import author

    row = started(
        {"a": template("{{ trigger.payload.given }}"), "b": template("{{ a.output }}")},
        "start -> a; a -> b",
        by=author("mallory"),
        payload={"given": {"$blob": known}},
    )
    hand.run_all()

    assert outcome(row).final_output == {"$blob": known}


@pytest.mark.parametrize("forged", ["\0", "no-uuid", "x" * 500, "\ud800", "a6e36b45-03e5-4b88-a257-63a6e36b4502"])
def test_what_only_looks_like_a_reference_is_data(hand: Hand, forged: str) -> None:
    row = started(
        {"a": template("{{ trigger.payload.given }}"), "b": template("{{ a.output }}")},
        "start -> a; a -> b",
        payload={"given": {"$blob": forged}},
    )

    hand.run_all()

    assert outcome(row).final_output == {"$blob": forged}


def test_there_is_an_end_to_what_a_step_may_leave(hand: Hand, app: Flask) -> None:
    from pipelit.nodes.outcome import Completed
    from tests.engine.stories import run_all_with

    row = started({"a": template()}, "start -> a")

    run_all_with(worker_that(lambda _: Completed({"output": "x" * (64 * 1024 * 1024)}), blob_bytes=1024), hand)

    assert attempts(row, "a") == [(1, "failed", "output_too_large")]
    assert "the limit is" in outcome(row).error_message
    assert json.loads(outcome(row).logs[1].input) == {"template": ""}
