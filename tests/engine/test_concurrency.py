"""Workflows that say how many of their executions may run at once, and what becomes of the others."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import select

from pipelit import clock
from pipelit.engine.groups import GROUPS, GroupKeys
from pipelit.engine.recovery import start_of
from pipelit.engine.runtime import engine
from pipelit.errors import Invalid, PipelitError, WrongState
from pipelit.extensions import db, transaction
from pipelit.models import CompiledPlan, UserProfile, Workflow, WorkflowExecution
from pipelit.services import executions, retries, workflows
from pipelit.services.reuse import Retry
from tests.engine.stories import attempts, author, keys_of, outcome, template
from tests.support.examples import examples
from tests.support.hand import Hand
from tests.support.workflows import build


@pytest.fixture
def ada(hand: Hand) -> UserProfile:
    return author()


def limited(limit: int | None = 1, **about: Any) -> Workflow:
    """A workflow of one step."""
    nodes = {"start": ("trigger_manual", {}), "a": template("{{ trigger.text }}")}
    return build(nodes, "start -> a", max_concurrent=limit, **about)


def accepted(workflow: Workflow, count: int, by: UserProfile, **start: Any) -> list[WorkflowExecution]:
    return [executions.start(workflow.slug, by=by, **{"text": str(number), **start}) for number in range(count)]


def statuses(rows: list[WorkflowExecution]) -> list[str]:
    return [outcome(row).status for row in rows]


def later(seconds: float = 60) -> Any:
    return clock.now() + timedelta(seconds=seconds)


def begun(hand: Hand) -> list[str]:
    """The executions whose first step has been sent, in this order."""
    return [delivery.args[0] for delivery in hand.waiting()]


def test_what_is_beyond_the_limit_waits_and_begins_in_the_order_of_its_acceptance(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(2), 5, ada)
    ids = [row.execution_id for row in rows]
    assert begun(hand) == ids[:2]
    assert [row.status for row in rows[2:]] == ["pending"] * 3

    order = []
    while delivery := hand.deliver():
        order.append(delivery.args[0])
        assert len(begun(hand)) <= 2
        while hand.deliver("triggers"):
            pass

    assert order == ids
    assert statuses(rows) == ["completed"] * 5
    assert hand.redis.keys("pipelit:group:*") == []
    assert hand.redis.hgetall(GROUPS) == {"": "1"}


def test_the_next_one_begins_by_the_transition_that_ends_the_one_before(hand: Hand, ada: UserProfile) -> None:
    first, second = accepted(limited(), 2, ada)

    hand.deliver()

    assert [delivery.args for delivery in hand.waiting("triggers")] == [[outcome(second).concurrency_group]]
    hand.deliver("triggers")
    assert begun(hand) == [second.execution_id]
    assert outcome(first).status == "completed"


def test_a_workflow_without_a_limit_leaves_nothing_behind(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(None), 3, ada)

    hand.run_all()

    assert statuses(rows) == ["completed"] * 3
    assert hand.redis.keys("pipelit:group*") == []
    assert [row.concurrency_group for row in rows] == [None] * 3


def test_only_executions_with_the_same_key_count_together(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(serial_key="{{ trigger.payload.customer }}")
    payloads = [{"customer": "ann"}, {"customer": "bob"}, {"customer": "ann"}, {"customer": 7}, {"customer": "7"}]

    rows = [executions.start(workflow.slug, by=ada, payload=payload) for payload in payloads]

    assert begun(hand) == [rows[number].execution_id for number in (0, 1, 3)]
    hand.run_all()
    assert statuses(rows) == ["completed"] * 5


def test_an_event_without_a_key_is_refused_and_says_why(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(serial_key="{{ trigger.payload.customer }}")

    with pytest.raises(Invalid, match="customer") as refused:
        executions.start(workflow.slug, by=ada, payload={"client": "ann"})

    assert refused.value.errors.keys() == {"serial_key"}
    assert db.session.scalars(select(WorkflowExecution)).all() == []


def test_what_is_not_to_wait_is_recorded_as_dropped(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(overlap="drop")

    first, second = accepted(workflow, 2, ada)

    assert (first.status, second.status, second.error_code) == ("pending", "cancelled", "dropped")
    assert outcome(second).completed_at is not None
    assert keys_of(second) == {"meta"}
    assert executions.get(second.execution_id, by=ada).started_at is None
    hand.run_all()
    (third,) = accepted(workflow, 1, ada)
    hand.run_all()
    assert statuses([first, second, third]) == ["completed", "cancelled", "completed"]


def test_a_newer_one_takes_the_place_of_the_oldest(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(2, overlap="cancel_previous")

    rows = accepted(workflow, 4, ada)
    hand.run_all()

    assert statuses(rows) == ["cancelled", "cancelled", "completed", "completed"]
    assert [outcome(row).error_code for row in rows] == ["superseded", "superseded", None, None]
    assert hand.redis.keys("pipelit:group:*") == []


def test_what_came_earlier_and_arrives_later_takes_nobodys_place(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(overlap="cancel_previous")
    late, newer = accepted(workflow, 2, ada)
    hand.redis.flushall()
    with transaction() as session:
        for row in (late, newer):
            kept = session.get(WorkflowExecution, row.execution_id)
            assert kept is not None
            kept.status = "pending"

    for row in (newer, late):
        engine().coordinator.start(start_of(outcome(row)))
    hand.run_all()

    assert statuses([late, newer]) == ["cancelled", "completed"]
    assert outcome(late).error_code == "superseded"


def test_what_waits_can_be_cancelled_and_holds_nobody_up(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(), 3, ada)

    cancelled = executions.cancel(rows[1].execution_id, by=ada)
    hand.run_all()

    assert cancelled.status == "cancelled"
    assert statuses(rows) == ["completed", "cancelled", "completed"]
    with pytest.raises(WrongState):
        executions.cancel(rows[1].execution_id, by=ada)


def test_a_cancelled_one_makes_room(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(), 2, ada)

    executions.cancel(rows[0].execution_id, by=ada)
    hand.run_all()

    assert statuses(rows) == ["cancelled", "completed"]


def test_one_that_waits_for_a_person_keeps_its_slot(hand: Hand, ada: UserProfile) -> None:
    nodes = {"start": ("trigger_manual", {}), "a": template("a", interrupt_before=True)}
    rows = accepted(build(nodes, "start -> a", max_concurrent=1), 2, ada)

    hand.run_all()

    assert statuses(rows) == ["interrupted", "pending"]


def test_a_lost_message_of_a_freed_slot_is_made_up_for_by_the_sweep(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(), 2, ada)
    hand.deliver()
    hand.redis.delete("triggers")

    engine().turns.sweep(clock.now())
    hand.run_all()

    assert statuses(rows) == ["completed", "completed"]


def test_who_died_between_the_row_and_the_start_loses_neither_the_execution_nor_the_order(
    hand: Hand, ada: UserProfile
) -> None:
    rows = accepted(limited(), 4, ada)
    group = str(outcome(rows[1]).concurrency_group)
    for row in rows[1:3]:
        hand.redis.zrem(GroupKeys.of(group).waiting, row.execution_id)

    engine().turns.sweep(clock.now())
    assert hand.redis.zcard(GroupKeys.of(group).waiting) == 1
    engine().turns.sweep(later())
    assert hand.redis.zrange(GroupKeys.of(group).waiting, 0, -1) == [row.execution_id for row in rows[1:]]
    hand.run_all()

    assert statuses(rows) == ["completed"] * 4


def test_who_died_before_dropping_is_made_up_for(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(overlap="drop")
    rows = accepted(workflow, 2, ada)
    with transaction() as session:
        kept = session.get(WorkflowExecution, rows[1].execution_id)
        assert kept is not None
        kept.status, kept.completed_at, kept.error_code = "pending", None, None
    hand.redis.delete(f"pipelit:x:{rows[1].execution_id}:meta")

    engine().turns.sweep(later())

    assert statuses(rows) == ["running", "cancelled"]
    assert outcome(rows[1]).error_code == "dropped"


def test_the_sweep_of_pending_executions_does_not_push_past_the_limit(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(), 3, ada)
    with transaction() as session:
        for row in rows:
            kept = session.get(WorkflowExecution, row.execution_id)
            assert kept is not None
            kept.created_at -= timedelta(minutes=5)

    for _ in range(2):
        engine().recovery.start_pending()
        engine().turns.sweep(clock.now())

    assert begun(hand) == [rows[0].execution_id]
    assert not engine().coordinator.start(start_of(outcome(rows[1])))


def test_a_slot_of_an_execution_that_has_ended_is_found_and_given_back(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(), 2, ada)
    hand.deliver()
    assert outcome(rows[0]).status == "completed"
    group = str(outcome(rows[0]).concurrency_group)
    hand.redis.delete("triggers")
    # A server that came back with an older copy remembers who has ended since.
    hand.redis.zadd(GroupKeys.of(group).live, {rows[0].execution_id: 1})
    hand.redis.hset(GROUPS, rows[0].execution_id, group)

    engine().turns.sweep(clock.now())
    hand.run_all()

    assert statuses(rows) == ["completed", "completed"]


def test_a_server_that_lost_everything_counts_who_is_live_and_who_waits(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(2)
    rows = accepted(workflow, 5, ada)
    assert statuses(rows)[:3] == ["running", "running", "pending"]

    hand.redis.flushall()
    rows += accepted(workflow, 1, ada)

    assert hand.waiting() == []
    group = str(outcome(rows[0]).concurrency_group)
    assert hand.redis.zrange(GroupKeys.of(group).live, 0, -1) == [row.execution_id for row in rows[:2]]
    assert hand.redis.zrange(GroupKeys.of(group).waiting, 0, -1) == [row.execution_id for row in rows[2:]]
    for row in rows[:2]:
        assert engine().recovery.losses.rebuilder.restore(outcome(row))
    hand.run_all()
    assert statuses(rows) == ["completed"] * 6


def test_one_whose_state_was_lost_can_be_cancelled_and_makes_room(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(), 2, ada)
    assert statuses(rows) == ["running", "pending"]
    hand.redis.flushall()
    engine().turns.sweep(later())
    assert hand.waiting() == []

    executions.cancel(rows[0].execution_id, by=ada)
    hand.run_all()

    assert statuses(rows) == ["cancelled", "completed"]


def test_a_limit_that_is_raised_or_taken_away_lets_the_next_ones_begin(hand: Hand, ada: UserProfile) -> None:
    workflow = limited()
    rows = accepted(workflow, 5, ada)

    workflows.update(workflow.slug, {"max_concurrent": 3}, by=ada)
    engine().turns.sweep(clock.now())
    assert len(begun(hand)) == 3
    workflows.update(workflow.slug, {"max_concurrent": None}, by=ada)
    engine().turns.sweep(clock.now())

    assert len(begun(hand)) == 5
    hand.run_all()
    assert statuses(rows) == ["completed"] * 5
    assert hand.redis.keys("pipelit:group:*") == []


def test_one_that_cannot_begin_holds_nobody_up(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(), 3, ada)
    with transaction() as session:
        session.add(CompiledPlan(hash="broken", plan="[]"))
        session.flush()
        kept = session.get(WorkflowExecution, rows[1].execution_id)
        assert kept is not None
        kept.plan_hash = "broken"

    def start(row: WorkflowExecution) -> bool:
        if row.plan_hash == "broken":
            raise PipelitError("The plan cannot be read.")
        return engine().recovery.start(row)

    turns = replace(engine().turns, start=start)
    hand.deliver()
    hand.redis.delete("triggers")
    turns.sweep(later())
    hand.deliver()
    turns.sweep(later())

    assert statuses(rows) == ["completed", "pending", "completed"]


def test_a_limit_holds_for_steps_that_run_in_place(hand: Hand, ada: UserProfile) -> None:
    rows = accepted(limited(placement="local"), 3, ada)

    hand.run_all()

    assert statuses(rows) == ["completed"] * 3
    assert all(attempts(row, "a") == [(1, "success", None)] for row in rows)


def lose_everything(hand: Hand) -> None:
    """The server loses what it had, but for what stood in SQL already."""
    engine().drain_journal()
    hand.redis.flushall()
    engine().recovery.losses.notice(clock.now_ms())


HAPPENING: dict[str, Callable[[Hand], object]] = {
    "step": lambda hand: hand.deliver(),
    "trigger": lambda hand: hand.deliver("triggers"),
    "lose": lambda hand: hand.redis.delete("triggers"),
    "sweep": lambda _: engine().turns.sweep(later()),
    "flush": lose_everything,
}
DEEDS = st.lists(
    st.tuples(st.sampled_from(["accept", "accept", "cancel", *HAPPENING]), st.integers(0, 5)),
    min_size=5,
    max_size=25,
)


@examples(15, suppress_health_check=[*HealthCheck])
@given(deeds=DEEDS, limit=st.integers(1, 2), overlap=st.sampled_from(["queue", "drop", "cancel_previous"]))
def test_whatever_happens_no_more_run_than_may_and_all_of_them_end(
    hand: Hand, ada: UserProfile, deeds: list[tuple[str, int]], limit: int, overlap: str
) -> None:
    hand.redis.flushall()
    engine().recovery.losses.notice(clock.now_ms())
    workflow = limited(limit, overlap=overlap, serial_key="{{ trigger.payload.key }}", name=str(clock.precise_ms()))
    rows: list[WorkflowExecution] = []

    for deed, number in deeds:
        if deed == "accept":
            rows.append(executions.start(workflow.slug, by=ada, payload={"key": number % 2}))
        elif deed != "cancel":
            HAPPENING[deed](hand)
        elif rows and outcome(rows[number % len(rows)]).is_live:
            executions.stop(rows[number % len(rows)].execution_id)
        for key in hand.redis.keys("pipelit:group:*:live"):
            assert hand.redis.zcard(key) <= limit
        assert len(live_in_redis(hand)) <= 2 * limit

    for _ in range(3 * len(rows) + 3):
        restore_all(rows)
        engine().turns.sweep(later())
        hand.run_all()
    ended = statuses(rows)
    assert set(ended) <= {"completed", "cancelled"}
    if overlap == "queue" and not any(deed == "cancel" for deed, _ in deeds):
        assert set(ended) <= {"completed"}
    assert hand.redis.keys("pipelit:group:*") == []


def live_in_redis(hand: Hand) -> list[str]:
    """The executions that the server has working state of and that have not ended."""
    found = hand.redis.keys("pipelit:x:*:meta")
    return [key for key in found if hand.redis.hget(key, "status") == "running"]


def restore_all(rows: list[WorkflowExecution]) -> None:
    for row in rows:
        kept = outcome(row)
        if kept.status in ("running", "interrupted"):
            engine().recovery.losses.rebuilder.restore(kept)


def test_a_retry_is_one_more_execution(hand: Hand, ada: UserProfile) -> None:
    workflow = limited()
    (done,) = accepted(workflow, 1, ada)
    hand.run_all()
    outcome(done)
    (running,) = accepted(workflow, 1, ada)

    waiting = retries.retry(done.execution_id, Retry(from_node_id="a"), by=ada)

    assert statuses([running, waiting]) == ["running", "pending"]
    assert len(hand.waiting()) == 1
    hand.run_all()
    assert statuses([running, waiting]) == ["completed", "completed"]


def test_a_retry_that_is_not_to_wait_is_dropped(hand: Hand, ada: UserProfile) -> None:
    workflow = limited(overlap="drop")
    (done,) = accepted(workflow, 1, ada)
    hand.run_all()
    outcome(done)
    accepted(workflow, 1, ada)

    dropped = retries.retry(done.execution_id, Retry(from_node_id="a"), by=ada)

    assert (dropped.status, dropped.error_code) == ("cancelled", "dropped")


def test_who_died_while_it_made_room_is_made_up_for(hand: Hand, ada: UserProfile) -> None:
    workflow = limited()
    rows = accepted(workflow, 3, ada)
    # What a process leaves that dies before it has cancelled anybody: the newest one waits, like those before it.
    workflows.update(workflow.slug, {"overlap": "cancel_previous"}, by=ada)

    engine().turns.sweep(clock.now())
    hand.run_all()

    assert statuses(rows) == ["cancelled", "cancelled", "completed"]
    assert [outcome(row).error_code for row in rows] == ["superseded", "superseded", None]
