"""The heartbeat of maintenance: one chain of ticks that neither splits nor ends."""

import json
from datetime import datetime, timedelta

from pipelit import clock
from pipelit.engine.keys import WORKERS
from pipelit.engine.runtime import engine
from pipelit.engine.tick import BROKEN_AFTER_MS
from pipelit.services import executions
from pipelit.tasks.workers import seen
from tests.engine.stories import attempts, claim_as, outcome, started, template
from tests.support.hand import Delivery, Hand
from tests.support.product import wait_until
from tests.support.workflows import admin, build


def ticks(hand: Hand) -> list[Delivery]:
    return [delivery for delivery in hand.waiting("maintenance") if delivery.name == "pipelit.maintenance.tick"]


def take_tick(hand: Hand) -> Delivery:
    """The next tick, whatever stands before it."""
    while (delivery := hand.take("maintenance")) and delivery.name != "pipelit.maintenance.tick":
        pass
    assert delivery is not None
    return delivery


ROUNDING = timedelta(milliseconds=10)


def test_a_worker_that_finds_no_chain_begins_one(hand: Hand) -> None:
    seen(engine(), "steps@here", ["default"])
    seen(engine(), "system@here", ["maintenance"])

    assert [delivery.args for delivery in ticks(hand)] == [[1]]
    assert set(hand.redis.hgetall(WORKERS)) == {"steps@here", "system@here"}


def test_a_tick_sends_the_next_one_second_later_under_its_own_id(hand: Hand) -> None:
    engine().tick.ensure()

    before = clock.now()
    hand.run(take_tick(hand))
    after = clock.now()

    (following,) = ticks(hand)
    assert (following.task_id, following.args) == ("tick-2", [2])
    eta = datetime.fromisoformat(json.loads(hand.redis.lindex("maintenance", 0))["headers"]["eta"])
    assert before < eta - timedelta(seconds=1) + ROUNDING < after + 2 * ROUNDING


def test_a_repeated_tick_dies_out(hand: Hand) -> None:
    engine().tick.ensure()
    first = take_tick(hand)

    for _ in range(3):
        hand.run(first)
    second = take_tick(hand)
    for _ in range(3):
        hand.run(second)
        hand.run(first)

    assert [delivery.args for delivery in ticks(hand)] == [[3]]


def test_a_chain_that_broke_is_mended_once(hand: Hand) -> None:
    engine().tick.ensure()
    hand.run(take_tick(hand))
    lost = take_tick(hand)
    seen(engine(), "steps@here", ["default"])
    assert ticks(hand) == []

    assert 0 < hand.redis.pttl("pipelit:tick") <= BROKEN_AFTER_MS
    hand.redis.delete("pipelit:tick")
    seen(engine(), "steps@here", ["default"])
    seen(engine(), "system@here", ["maintenance"])
    hand.run(lost)

    assert [delivery.args for delivery in ticks(hand)] == [[1]]


def test_a_tick_looks_after_deadlines_the_journal_and_late_starts(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    claim_as("another-machine/1/2", hand.take())
    hand.redis.delete("maintenance")
    # A server that has just started has not had the time to hear of anybody, so that no lease expires before.
    lease = engine().settings.lease_seconds
    wait_until(lambda: hand.redis.info("server")["uptime_in_seconds"] > lease + 1, "the server is up for a lease")
    engine().tick.ensure()

    hand.run(take_tick(hand))

    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:a::a2"]
    assert hand.redis.xlen("pipelit:journal") == 0
    hand.run_all(until=lambda: not hand.waiting())
    assert attempts(row, "a") == [(1, "failed", "worker_lost"), (2, "success", None)]
    assert outcome(row).status == "completed"


def test_the_chain_goes_on_when_what_a_tick_looks_after_fails(hand: Hand) -> None:
    engine().tick.ensure()
    hand.redis.set("pipelit:journal", "not a stream")

    hand.run(take_tick(hand))

    assert [delivery.args for delivery in ticks(hand)] == [[2]]


def test_what_one_execution_does_to_the_sweep_does_not_keep_others_from_it(hand: Hand) -> None:
    engine().tick.ensure()
    hand.redis.zadd("pipelit:deadlines", {"not-an-execution:at:all:a1": 1})
    hand.redis.set("pipelit:x:not-an-execution:meta", "not a hash")
    workflow = build({"start": ("trigger_manual", {}), "pause": ("wait", {"seconds": 3600})}, "start -> pause")
    row = executions.start(workflow.slug, by=admin())
    hand.deliver()

    engine().recovery.sweep_deadlines(2**53)
    hand.run_all(until=lambda: outcome(row).status != "running", most=50)

    assert outcome(row).status == "completed"
