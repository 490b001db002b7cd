"""Executions of which the engine knows nothing, because they have not begun or were lost: how they end all the same."""

import json
from datetime import timedelta
from typing import Any

from sqlalchemy import update

from pipelit import clock
from pipelit.engine import broadcast
from pipelit.engine.cache import Plans
from pipelit.engine.keys import ExecutionKeys, plan_key
from pipelit.engine.lease import Lease, owner
from pipelit.engine.recovery import START_GRACE, START_PATIENCE, start_of
from pipelit.engine.runtime import engine
from pipelit.engine.store import TOMBSTONE_SECONDS
from pipelit.extensions import transaction
from pipelit.models import CompiledPlan, Workflow, WorkflowExecution
from pipelit.services import aftermath, executions
from tests.engine.losses import lose
from tests.engine.stories import author, claim_as, dead_owner, outcome, task_of, template
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


def make_overdue(*rows: WorkflowExecution) -> None:
    """Let executions have been accepted a while ago, one after another."""
    with transaction() as session:
        for position, row in enumerate(rows):
            at = clock.now() - START_PATIENCE - START_GRACE + timedelta(milliseconds=position)
            session.execute(update(WorkflowExecution).filter_by(execution_id=row.execution_id).values(created_at=at))


def spoil_plan(row: WorkflowExecution) -> None:
    """Let an execution never be able to start: its plan cannot be read any more, and no process remembers it."""
    with transaction() as session:
        session.execute(update(CompiledPlan).filter_by(hash=row.plan_hash).values(plan="{}"))
    engine().coordinator.plans = Plans(engine().redis)


def test_what_was_not_started_starts_in_the_order_in_which_it_was_accepted(hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    rows = [executions.start(workflow.slug, by=ada) for _ in range(4)]
    lose(hand, is_drained=False)
    rows.reverse()
    make_overdue(*rows)

    assert engine().recovery.start_pending() == 4

    assert [delivery.args[0] for delivery in hand.waiting()] == [row.execution_id for row in rows]


def test_what_can_never_start_fails_with_the_reason_and_keeps_nobody_behind_it(hand: Hand) -> None:
    ada = author()
    broken = executions.start(workflow_of("broken").slug, by=ada)
    whole = executions.start(workflow_of("whole").slug, by=ada)
    lose(hand, is_drained=False)
    make_overdue(broken, whole)
    spoil_plan(broken)

    started = [engine().recovery.start_pending() for _ in range(2)]
    hand.run_all()

    assert started == [1, 0]
    assert (outcome(broken).status, outcome(broken).error_code) == ("failed", "start_refused")
    assert outcome(broken).error_message.startswith("The execution could not be started: KeyError")
    assert outcome(broken).completed_at is not None
    assert outcome(whole).final_output == "whole"
    assert not engine().coordinator.store.is_lost([broken.execution_id])[0]


def test_of_a_group_too_what_can_never_start_fails_and_gives_its_place_to_the_next(hand: Hand) -> None:
    ada = author()
    nodes = {"start": ("trigger_manual", {}), "a": template("{{ trigger.text }}")}
    workflow = build(nodes, "start -> a", max_concurrent=1)
    first, broken = (executions.start(workflow.slug, by=ada, text=text) for text in ("1", "2"))
    with transaction() as session:
        row = session.get(WorkflowExecution, broken.execution_id)
        assert row is not None
        session.add(CompiledPlan(hash="spoilt", plan="{}"))
        session.flush()
        row.plan_hash = "spoilt"
    last = executions.start(workflow.slug, by=ada, text="3")

    hand.run_all()
    assert [outcome(row).status for row in (first, broken, last)] == ["completed", "pending", "completed"]
    make_overdue(broken)
    engine().turns.sweep(clock.now())

    assert (outcome(broken).status, outcome(broken).error_code) == ("failed", "start_refused")
    assert hand.redis.keys("pipelit:group:*") == []


def test_what_one_worker_cannot_start_is_left_to_another_for_a_minute(hand: Hand) -> None:
    """A plan as a newer web server may write it, of which an older worker can make nothing."""
    row = executions.start(workflow_of("a").slug, by=author())
    lose(hand, is_drained=False)
    with transaction() as session:
        plan = session.get_one(CompiledPlan, row.plan_hash).plan
        mine = update(WorkflowExecution).filter_by(execution_id=row.execution_id)
        session.execute(mine.values(created_at=clock.now() - 2 * START_GRACE))
    spoil_plan(row)

    assert engine().recovery.start_pending() == 0
    assert outcome(row).status == "pending"
    with transaction() as session:
        session.execute(update(CompiledPlan).filter_by(hash=row.plan_hash).values(plan=plan))
    hand.redis.delete(plan_key(row.workflow_id, row.plan_hash))
    assert engine().recovery.start_pending() == 1
    hand.run_all()

    assert outcome(row).status == "completed"


def test_whoever_watches_what_can_never_start_hears_of_it(hand: Hand) -> None:
    row = executions.start(workflow_of("a").slug, by=author())
    lose(hand, is_drained=False)
    make_overdue(row)
    spoil_plan(row)
    listener = hand.redis.pubsub(ignore_subscribe_messages=True)
    channel = f"{broadcast.PREFIX}recorded:{row.execution_id}"
    listener.subscribe(channel)
    wait_until(lambda: hand.redis.pubsub_numsub(channel) == [(channel, 1)], "it is listened to")

    engine().recovery.start_pending()

    heard: list[Any] = []

    def is_told() -> bool:
        if message := listener.get_message(timeout=0.2):
            heard.append(json.loads(broadcast.parse(message["data"]).body))
        return bool(heard)

    wait_until(is_told, "the end is told")
    assert heard[0]["type"] == "execution_failed"
    assert heard[0]["data"]["error_code"] == "start_refused"
    listener.close()


def test_one_step_that_cannot_be_taken_over_keeps_no_others(hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    broken, whole = (executions.start(workflow.slug, by=ada) for _ in range(2))
    for until in (5_000, 6_000):
        delivery = hand.take()
        assert delivery is not None
        claim_as(dead_owner(), delivery, lease_until=clock.now_ms() + until)
    hand.redis.hset(ExecutionKeys.of(broken.execution_id).steps, "a", "[")

    engine().recovery.take_over(clock.now_ms())
    hand.run_all()

    assert outcome(whole).status == "completed"
    assert outcome(broken).status != "completed"


def ends(hand: Hand, *, broken: int) -> list[WorkflowExecution]:
    """Executions that have ended and were not followed up; of the first ones nothing can be made, the last is whole."""
    ada, workflow = author(), workflow_of("a")
    rows = [executions.start(workflow.slug, by=ada) for _ in range(broken + 1)]
    hand.run_all()
    engine().drain_journal()
    with transaction() as session:
        for position, row in enumerate(rows):
            about: dict[str, Any] = {"completed_at": clock.now() - timedelta(seconds=broken - position)}
            if position < broken:
                about |= {"parent_execution_id": rows[-1].execution_id, "parent_step": "a@loop:nothing"}
            mine = update(WorkflowExecution).filter_by(execution_id=row.execution_id)
            session.execute(mine.values(needs_follow_up=True, **about))
    return rows


def test_one_end_that_cannot_be_followed_up_keeps_no_others(hand: Hand) -> None:
    broken, whole = ends(hand, broken=1)

    assert aftermath.sweep(clock.now() + timedelta(seconds=5)) == 2

    assert not outcome(whole).needs_follow_up
    assert outcome(broken).needs_follow_up


def test_ends_that_cannot_be_followed_up_keep_no_others_however_many_they_are(hand: Hand) -> None:
    rows = ends(hand, broken=4)
    before = clock.now() + timedelta(seconds=5)

    looked_at = [aftermath.sweep(before, at_once=2) for _ in range(3)]

    assert looked_at == [2, 2, 1]
    assert [outcome(row).needs_follow_up for row in rows] == [True] * 4 + [False]
    assert [aftermath.sweep(before, at_once=2) for _ in range(3)] == [2, 2, 0], "another round begins"


def test_executions_that_cannot_start_keep_no_others_however_many_they_are(hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    rows = [executions.start(workflow.slug, by=ada) for _ in range(5)]
    lose(hand, is_drained=False)
    make_overdue(*rows)
    for row in rows[:4]:
        # What this server says of them is an error: something else stands where their state should be.
        hand.redis.set(ExecutionKeys.of(row.execution_id).meta, "spoilt")

    started = [engine().recovery.start_pending(at_once=2) for _ in range(3)]
    hand.run_all()

    assert started == [0, 0, 1]
    assert outcome(rows[-1]).status == "completed"
