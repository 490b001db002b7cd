"""Executions of which the engine knows nothing, because they have not begun or were lost: how they end all the same."""

import json
from typing import Any

from pipelit.engine import broadcast
from pipelit.engine.keys import ExecutionKeys
from pipelit.engine.lease import Lease, owner
from pipelit.engine.recovery import start_of
from pipelit.engine.runtime import engine
from pipelit.engine.store import TOMBSTONE_SECONDS
from pipelit.models import Workflow
from pipelit.services import executions
from tests.engine.losses import lose
from tests.engine.stories import author, claim_as, outcome, task_of, template
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.support.workflows import build


def workflow_of(text: str) -> Workflow:
    return build({"start": ("trigger_manual", {}), "a": template(text)}, "start -> a")


def test_a_cancel_that_died_half_way_is_finished_by_the_next(hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    row = executions.start(workflow.slug, by=ada)
    lose(hand)
    assert engine().store.forestall(row.execution_id)

    cancelled = executions.cancel(row.execution_id, by=ada)

    assert cancelled.status == "cancelled"
    assert not engine().coordinator.start(start_of(outcome(row)))
    assert 0 < hand.redis.ttl(ExecutionKeys.of(row.execution_id).meta) <= TOMBSTONE_SECONDS


def test_a_cancel_that_was_never_finished_keeps_an_execution_back_for_a_while_only(hand: Hand) -> None:
    row = executions.start(workflow_of("a").slug, by=author())
    lose(hand)

    assert engine().store.forestall(row.execution_id)

    assert not engine().coordinator.start(start_of(outcome(row)))
    assert 0 < hand.redis.ttl(ExecutionKeys.of(row.execution_id).meta) <= TOMBSTONE_SECONDS
    hand.redis.delete(ExecutionKeys.of(row.execution_id).meta)  # As when the time is over.
    assert engine().coordinator.start(start_of(outcome(row)))


def test_what_has_begun_or_ended_cannot_be_forestalled(hand: Hand) -> None:
    row = executions.start(workflow_of("a").slug, by=author())
    assert not engine().store.forestall(row.execution_id)

    hand.run_all()

    assert outcome(row).status == "completed"
    assert not engine().store.forestall(row.execution_id)


def test_a_step_that_still_runs_when_a_lost_execution_is_cancelled_is_to_stop(hand: Hand) -> None:
    ada = author()
    row = executions.start(workflow_of("a").slug, by=ada)
    delivery = hand.take()
    assert delivery is not None
    claim_as(owner(), delivery)
    lose(hand)
    lease = Lease(task_of(delivery), 6.0)
    lease.renew(engine().store)
    assert not lease.is_cancelled

    executions.cancel(row.execution_id, by=ada)

    lease.renew(engine().store)
    assert lease.is_cancelled


def test_whoever_waits_for_or_watches_what_never_began_hears_that_it_was_cancelled(hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    row = executions.start(workflow.slug, by=ada)
    lose(hand)
    listener = hand.redis.pubsub(ignore_subscribe_messages=True)
    names = (f"recorded:{row.execution_id}", f"execution:{row.execution_id}", f"workflow:{workflow.slug}")
    channels = {broadcast.PREFIX + name for name in names}
    listener.subscribe(*channels)
    wait_until(lambda: all(count for _, count in hand.redis.pubsub_numsub(*channels)), "all are listened to")

    executions.cancel(row.execution_id, by=ada)

    heard: dict[str, Any] = {}

    def is_told() -> bool:
        if message := listener.get_message(timeout=0.2):
            heard[message["channel"]] = json.loads(broadcast.parse(message["data"]).body)
        return heard.keys() == channels

    wait_until(is_told, "every channel tells the end")
    assert {told["type"] for told in heard.values()} == {"execution_cancelled"}
    assert {told["data"]["status"] for told in heard.values()} == {"cancelled"}
    listener.close()
