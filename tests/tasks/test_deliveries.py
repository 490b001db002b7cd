"""A message that a dead worker held comes back."""

import json

from tests.support.crew import Crew
from tests.support.hand import Hand

GREET = {"greet": ("template", {"template": "hi"})}


def test_abandoned_messages_are_found_within_seconds(crew: Crew, crew_hand: Hand) -> None:
    rows = [crew.run(GREET, "start -> greet") for _ in range(2)]
    payloads = [crew_hand.redis.rpop("default") for _ in rows]
    crew.start("steps")

    # By default the first would be found 10 s after the worker's start, and the second 100 s later.
    for row, payload in zip(rows, payloads, strict=True):
        leave_as_a_killed_worker_does(crew_hand, payload)
        assert crew.wait_for(row).final_output == "hi"


def leave_as_a_killed_worker_does(hand: Hand, payload: str) -> None:
    """Put a message where it stands that was taken long ago, and never acknowledged."""
    message = json.loads(payload)
    tag = message["properties"]["delivery_tag"]
    hand.redis.hset("unacked", tag, json.dumps([message, "", "default"]))
    hand.redis.zadd("unacked_index", {tag: 1})
