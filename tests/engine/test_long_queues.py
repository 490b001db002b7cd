"""A limit with very many executions waiting behind it: looking after them takes no longer than with a few."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import insert

from pipelit import clock
from pipelit.engine.groups import GroupKeys, accepted_at
from pipelit.engine.runtime import engine
from pipelit.engine.store import batched
from pipelit.engine.turns import AT_ONCE
from pipelit.extensions import transaction
from pipelit.models import UserProfile, WorkflowExecution
from pipelit.services import executions, workflows
from tests.engine.stories import author, outcome
from tests.engine.test_concurrency import limited
from tests.support.hand import Hand

MANY = 20_000
LOOKED_AT = 500
ANSWERED_BYTES = 200_000
"""What the server may answer to one sweep: those that wait have four times as many bytes of ids alone."""


@dataclass
class Queue:
    """A workflow of which one execution runs, and those that wait for it, in order."""

    slug: str
    group: str
    running: WorkflowExecution
    waiting: list[str]


@pytest.fixture
def ada(hand: Hand) -> UserProfile:
    return author()


def queue(hand: Hand, ada: UserProfile, count: int) -> Queue:
    """As `count` starts would leave it, written in bulk."""
    workflow = limited()
    running = executions.start(workflow.slug, by=ada, text="first")
    row = outcome(running)
    ids = [str(uuid.uuid4()) for _ in range(count)]
    about = {name: getattr(row, name) for name in ("workflow_id", "plan_hash", "trigger_node_id", "concurrency_group")}
    common = {**about, "status": "pending", "trigger": "manual", "trigger_output": {"text": "later"}}
    began = clock.now() - timedelta(hours=1)
    rows = [
        {**common, "execution_id": name, "created_at": began + timedelta(milliseconds=number)}
        for number, name in enumerate(ids)
    ]
    with transaction() as session:
        for some in batched(rows, 5_000):
            session.execute(insert(WorkflowExecution), list(some))
    take_places(hand.redis, str(row.concurrency_group), rows)
    return Queue(workflow.slug, str(row.concurrency_group), row, ids)


def take_places(redis: Redis, group: str, rows: Sequence[dict[str, Any]]) -> None:
    for some in batched(rows, 5_000):
        places = {row["execution_id"]: accepted_at(row["created_at"]) for row in some}
        redis.zadd(GroupKeys.of(group).waiting, places)


def answered(redis: Redis) -> int:
    """Bytes that the server has answered so far."""
    found: Any = redis.info("stats")
    return int(found["total_net_output_bytes"])


def test_a_sweep_costs_the_same_however_many_wait_and_misses_nobody(hand: Hand, ada: UserProfile) -> None:
    line = queue(hand, ada, MANY)
    waiting = GroupKeys.of(line.group).waiting
    lost = [line.waiting[number] for number in (7, MANY // 2, MANY - 1)]
    hand.redis.zrem(waiting, *lost)

    for _ in range(MANY // LOOKED_AT + 1):
        before = answered(hand.redis)
        assert engine().turns.sweep(clock.now(), at_once=LOOKED_AT) == 0
        assert answered(hand.redis) - before < ANSWERED_BYTES

    assert hand.redis.zcard(waiting) == MANY
    assert [hand.redis.zrank(waiting, name) for name in lost] == [7, MANY // 2, MANY - 1]
    hand.deliver()
    before = answered(hand.redis)
    hand.deliver("triggers")
    assert answered(hand.redis) - before < ANSWERED_BYTES
    assert [delivery.args[0] for delivery in hand.waiting()] == [line.waiting[0]]


def test_a_limit_that_is_taken_away_begins_them_some_at_a_time_and_in_order(hand: Hand, ada: UserProfile) -> None:
    line = queue(hand, ada, 2 * AT_ONCE + 10)
    hand.redis.delete("default")
    workflows.update(line.slug, {"max_concurrent": None}, by=ada)

    assert engine().turns.sweep(clock.now()) == AT_ONCE
    assert [delivery.args for delivery in hand.waiting("triggers")] == [[line.group]]
    for _ in range(2):
        assert hand.deliver("triggers")

    assert [delivery.args[0] for delivery in hand.waiting()] == line.waiting
    assert hand.waiting("triggers") == []


def test_after_a_loss_those_that_wait_are_counted_by_the_sweep_and_nobody_is_kept_waiting_for_it(
    hand: Hand, ada: UserProfile
) -> None:
    line = queue(hand, ada, MANY)
    keys = GroupKeys.of(line.group)
    hand.redis.flushall()

    last = executions.start(line.slug, by=ada, text="last")
    assert (last.status, hand.redis.exists(keys.waiting)) == ("pending", 0)
    assert engine().turns.sweep(clock.now()) == 0

    assert (hand.redis.zcard(keys.live), hand.redis.zcard(keys.waiting)) == (1, MANY + 1)
    assert hand.redis.zrange(keys.waiting, 0, 1) == line.waiting[:2]
    assert hand.redis.zrange(keys.waiting, -1, -1) == [last.execution_id]
