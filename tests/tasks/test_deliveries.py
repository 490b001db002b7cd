"""What the broker's settings promise of messages: none is kept from a worker that could run it now."""

import json
import threading

from tests.support.crew import Crew
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.tasks.test_processes import END, scene

GREET = {"greet": ("template", {"template": "hi"})}


def test_an_abandoned_message_is_found_within_seconds(crew: Crew, crew_hand: Hand) -> None:
    row = crew.run(GREET, "start -> greet")
    payload = crew_hand.redis.rpop("default")
    crew.start("steps")

    leave_as_a_killed_worker_does(crew_hand, payload)

    # By default it would be looked for 10 s after a worker's start, and every 100 s from then on.
    assert crew.wait_for(row, seconds=8).final_output == "hi"


def leave_as_a_killed_worker_does(hand: Hand, payload: str) -> None:
    """Put a message where it stands that was taken long ago, and never acknowledged."""
    message = json.loads(payload)
    tag = message["properties"]["delivery_tag"]
    hand.redis.hset("unacked", tag, json.dumps([message, "", "default"]))
    hand.redis.zadd("unacked_index", {tag: 1})


def test_a_worker_takes_no_more_than_it_can_run(crew: Crew, crew_hand: Hand) -> None:
    with scene() as there:
        crew.start("steps")
        long = crew.run({"call": there.call(), "end": END}, "start -> call; call -> end")
        wait_until(there.is_asked, "the long step runs", or_else=crew.said)
        short = [crew.run(GREET, "start -> greet") for _ in range(3)]
        threading.Event().wait(1)

        delivered = [crew_hand.deliver() for _ in short]

        assert None not in delivered
        assert [crew.wait_for(row).final_output for row in short] == ["hi"] * 3
        assert crew.outcome(long).status == "running"
