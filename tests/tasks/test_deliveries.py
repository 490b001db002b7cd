"""A message that a dead worker held comes back."""

import json

from pipelit.extensions import celery
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


def test_abandoned_messages_are_found_although_who_looked_for_them_was_killed(crew: Crew, crew_hand: Hand) -> None:
    row = crew.run(GREET, "start -> greet")
    payload = crew_hand.redis.rpop("default")
    be_killed_while_looking(crew_hand)
    leave_as_a_killed_worker_does(crew_hand, payload)

    crew.start("steps")

    assert crew.wait_for(row).final_output == "hi"


def be_killed_while_looking(hand: Hand) -> None:
    """Take the lock of those who look for abandoned messages as kombu does, and never give it back."""
    with celery.connection_for_write() as connection, connection.channel() as channel:
        lock = hand.redis.lock(channel.unacked_mutex_key, timeout=channel.unacked_mutex_expire)
        assert lock.acquire(blocking=False)


def leave_as_a_killed_worker_does(hand: Hand, payload: str) -> None:
    """Put a message where it stands that was taken long ago, and never acknowledged."""
    message = json.loads(payload)
    tag = message["properties"]["delivery_tag"]
    hand.redis.hset("unacked", tag, json.dumps([message, "", "default"]))
    hand.redis.zadd("unacked_index", {tag: 1})
