"""What watchers hear: on which channels, in which order, and how much of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipelit import clock
from pipelit.engine import broadcast
from pipelit.engine.runtime import engine
from pipelit.nodes.base import TriggerEvent
from pipelit.nodes.outcome import Completed
from pipelit.services import execution_events, executions
from tests.engine.stories import author, outcome, run_all_with, started, template, worker_that
from tests.support.hand import Hand
from tests.support.workflows import build

END = "pipelit:live:end"


@pytest.fixture
def heard(hand: Hand) -> Iterator[Any]:
    """Everything that is published, by channel."""
    listener = hand.redis.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("pipelit:live:*")
    listener.get_message(timeout=5)

    def messages() -> dict[str, list[broadcast.LiveEvent]]:
        found: dict[str, list[broadcast.LiveEvent]] = {}
        hand.redis.publish(END, "")
        while (message := listener.get_message(timeout=60)) and message["channel"] != END:
            found.setdefault(message["channel"].removeprefix("pipelit:live:"), []).append(
                broadcast.parse(message["data"])
            )
        return found

    yield messages
    listener.close()


def test_the_channels_of_workflow_and_execution_say_the_same(hand: Hand, heard: Any) -> None:
    row = started({"a": template("a")}, "start -> a")
    hand.run_all()

    channels = heard()

    told = channels[f"execution:{row.execution_id}"]
    assert [event.seq for event in told] == [1, 2, 3, 4, 5]
    assert [json.loads(event.body)["type"] for event in told] == [
        "execution_started",
        "node_status",
        "node_status",
        "node_status",
        "execution_completed",
    ]
    assert [event for event in channels[f"workflow:{row.workflow.slug}"] if event.seq] == told


def test_the_end_is_told_once_more_to_whoever_asked_for_it_at_the_start(hand: Hand, heard: Any) -> None:
    ada = author()
    workflow = build({"start": ("trigger_manual", {}), "a": template("a")}, "start -> a")
    reply_to = f"{broadcast.PREFIX}somebody"
    rows = [
        executions.begin(workflow, "start", TriggerEvent("manual", {}), by=ada, reply_to=each)
        for each in (None, reply_to, None)
    ]
    hand.run_all()

    channels = heard()

    (told,) = channels["somebody"]
    assert told.body == channels[f"execution:{rows[1].execution_id}"][-1].body
    assert json.loads(told.body)["type"] == "execution_completed"


def test_a_step_is_told_from_running_to_its_end(hand: Hand) -> None:
    row = started({"a": template("Hello")}, "start -> a")
    hand.run_all()

    told = [e["data"] for e in execution_events.after(row.execution_id, 0) if e["data"].get("node_id") == "a"]

    assert [(event["status"], event["scope"]) for event in told] == [("running", ""), ("success", "")]
    assert told[1]["output"] == {"output": "Hello"}
    assert told[1]["duration_ms"] >= 0


def test_a_failure_is_told_with_its_reason_and_its_place(hand: Hand) -> None:
    row = started({"a": template("{{ trigger.nothing }}")}, "start -> a")
    hand.run_all()

    *_, step, end = execution_events.after(row.execution_id, 0)

    assert (step["data"]["status"], step["data"]["error_code"]) == ("failed", "expression_failed")
    assert (end["type"], end["data"]["node_id"], end["data"]["status"]) == ("execution_failed", "a", "failed")
    assert "nothing" in end["data"]["error"]


def test_skipped_waiting_and_cancelled_are_told_too(hand: Hand) -> None:
    ada = author()
    row = started(
        {
            "pick": (
                "switch",
                {"rules": [{"field": "trigger.text", "operator": "equals", "value": "x", "route": "x"}]},
            ),
            "never": template("never"),
            "hold": template("hold", interrupt_before=True),
        },
        "start -> pick; pick.x -> never; pick.default -> hold",
        by=ada,
    )
    hand.run_all()
    executions.cancel(row.execution_id, by=ada)

    told = [
        (event["type"], event["data"].get("node_id"), event["data"]["status"])
        for event in execution_events.after(row.execution_id, 0)
    ]

    assert ("node_status", "never", "skipped") in told
    assert ("node_status", "hold", "waiting") in told
    assert ("execution_interrupted", "hold", "interrupted") in told
    assert told[-1] == ("execution_cancelled", None, "cancelled")


@pytest.mark.parametrize(("length", "is_whole"), [(16_384 - 13, True), (16_384, False), (100_000, False)])
def test_an_output_is_shown_up_to_16_kib(hand: Hand, length: int, is_whole: bool) -> None:
    row = started({"a": template()}, "start -> a")
    run_all_with(worker_that(lambda _: Completed({"output": "x" * length})), hand)

    shown = execution_events.after(row.execution_id, 0)[-2]["data"]

    assert shown["node_id"] == "a"
    assert ("truncated" in shown) is not is_whole
    if is_whole:
        assert shown["output"] == {"output": "x" * length}
    else:
        assert shown["truncated"] is True
        assert len(shown["output"]) == 16_384
    assert outcome(row).final_output == "x" * length


def test_a_step_without_quotes_in_mind_is_told_as_it_is(hand: Hand) -> None:
    nasty = 'a"},"timestamp":"b\\ \n \u2028 \0 \ud800'
    row = started({"a": template()}, "start -> a")
    run_all_with(worker_that(lambda _: Completed({'p"},"timestamp":': nasty})), hand)

    shown = execution_events.after(row.execution_id, 0)[-2]

    assert shown["data"]["output"] == {'p"},"timestamp":': nasty}
    assert shown["timestamp"].endswith("Z")


def test_the_stream_keeps_the_newest_events_and_forgets_the_oldest(hand: Hand) -> None:
    workflow = build(
        {
            "start": ("trigger_manual", {}),
            "each": ("loop", {"items": "{{ range(200) | list }}"}),
            "a": template("{{ loop.index }}"),
        },
        "start -> each; each =body=> a; a =return=> each",
    )
    row = executions.start(workflow.slug, by=author())
    engine().store.events_kept = 100
    hand.run_all(until=lambda: not hand.waiting())

    kept = execution_events.after(row.execution_id, 0)

    assert 100 <= len(kept) <= 300
    assert [event["seq"] for event in kept] == list(range(kept[0]["seq"], kept[-1]["seq"] + 1))
    assert kept[-1]["type"] == "execution_completed"


def test_who_was_away_gets_what_was_missed_in_portions(hand: Hand) -> None:
    row = started({name: template(name) for name in "abc"}, "start -> a; a -> b; b -> c")
    while hand.deliver():
        pass

    missed = list(broadcast.missed(hand.redis, row.execution_id, 3, count=2))

    assert [event.seq for event in missed] == list(range(4, broadcast.newest(hand.redis, row.execution_id) + 1))


def test_what_is_not_numbered_is_only_published(hand: Hand, heard: Any) -> None:
    broadcast.publish(hand.redis, "workflow:story", "node_created", {"node_id": "a"}, clock.now())

    (event,) = heard()["workflow:story"]
    assert event.seq is None
    assert json.loads(event.body)["data"] == {"node_id": "a"}
