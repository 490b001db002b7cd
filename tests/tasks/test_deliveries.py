"""A message that a dead worker held comes back."""

import json

from tests.support.crew import Crew
from tests.support.hand import Hand

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
