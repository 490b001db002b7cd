"""What nothing is heard of any more: dead workers, lost messages, executions that take too long."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis import Redis

from pipelit import clock
from pipelit.engine.keys import DEADLINES
from pipelit.engine.lease import is_dead
from pipelit.engine.runtime import engine
from pipelit.engine.transition import UNCLAIMED_MS
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from pipelit.services import execution_events
from tests.engine.stories import (
    Gate,
    attempts,
    beside,
    claim_as,
    dead_owner,
    keys_of,
    outcome,
    run_with,
    started,
    task_of,
    template,
    worker_that,
)
from tests.support.hand import Hand
from tests.support.product import wait_until

ELSEWHERE = "another-machine/12/345"


def in_seconds(seconds: float) -> int:
    return clock.now_ms() + round(seconds * 1000)


def test_a_redelivery_takes_over_from_a_process_that_is_gone(hand: Hand) -> None:
    row = started({"a": template("a"), "b": template("b")}, "start -> a; a -> b")
    delivery = hand.take()
    claim_as(dead_owner(), delivery)

    hand.run(delivery)
    hand.run_all()

    assert attempts(row, "a") == [(1, "failed", "worker_lost"), (2, "success", None)]
    assert outcome(row).status == "completed"


def test_without_a_redelivery_the_expired_lease_is_found(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    delivery = hand.take()
    claim_as(ELSEWHERE, delivery)
    hand.run(delivery)
    assert hand.waiting() == []

    engine().recovery.sweep_deadlines(in_seconds(60))
    hand.run_all()

    assert attempts(row, "a") == [(1, "failed", "worker_lost"), (2, "success", None)]


def test_a_step_of_a_worker_that_is_gone_is_taken_over_before_its_lease_expires(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    claim_as(dead_owner(), hand.take(), lease_until=in_seconds(5))

    assert engine().recovery.take_over(clock.now_ms()) == 1
    hand.run_all()

    assert attempts(row, "a") == [(1, "failed", "worker_lost"), (2, "success", None)]
    assert outcome(row).status == "completed"


@pytest.mark.parametrize("place", ["another-machine", f"{socket.gethostname()}/another-boot/pid:[1]"])
def test_nobody_knows_before_the_lease_expires_what_became_of_a_process_elsewhere(hand: Hand, place: str) -> None:
    row = started({"a": template("a")}, "start -> a")
    claim_as(f"{place}/0.1/0", hand.take(), lease_until=in_seconds(5))

    assert engine().recovery.take_over(clock.now_ms()) == 0
    assert attempts(row, "a") == []


def test_while_the_worker_lives_it_is_left_to_it_to_say_how_a_process_died(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    claim_as(dead_owner(keeper=os.getpid()), hand.take(), lease_until=in_seconds(5))

    assert engine().recovery.take_over(clock.now_ms()) == 0
    assert attempts(row, "a") == []


def test_a_process_is_gone_as_soon_as_it_is_killed() -> None:
    told = "import time; from pipelit.engine.lease import owner; print(owner(), flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", told], stdout=subprocess.PIPE, text=True) as process:
        owner = process.stdout.readline().strip()
        assert not is_dead(owner)

        process.kill()

        # It is not waited for: until then it stays in the list of processes, and does nothing any more.
        wait_until(lambda: is_dead(owner), "it is known to be gone")


def test_after_everything_stood_still_leases_have_their_time_again(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    claim_as(ELSEWHERE, hand.take(), lease_until=in_seconds(5))
    recovery = engine().recovery
    recovery.sweep_deadlines(clock.now_ms())

    recovery.sweep_deadlines(in_seconds(60))
    assert attempts(row, "a") == []
    for seconds in (62, 64, 66, 68):
        recovery.sweep_deadlines(in_seconds(seconds))

    assert attempts(row, "a") == [(1, "failed", "worker_lost")]


@dataclass
class Slow:
    """A server between whose answer about what is overdue and the next question something happens."""

    redis: Redis
    meanwhile: Callable[[], None]

    def zrangebyscore(self, *args: Any, **options: Any) -> Any:
        found = self.redis.zrangebyscore(*args, **options)
        self.meanwhile()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.redis, name)


def test_a_step_that_is_claimed_while_the_sweep_goes_on_keeps_its_lease(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    delivery = hand.take()
    late = in_seconds(60)
    recovery = replace(
        engine().recovery, redis=Slow(hand.redis, lambda: claim_as(ELSEWHERE, delivery, lease_until=late + 6_000))
    )

    recovery.sweep_deadlines(late)

    assert attempts(row, "a") == []
    assert hand.redis.zscore(DEADLINES, str(task_of(delivery))) == late + 6_000


def test_a_lease_that_is_renewed_does_not_expire(hand: Hand) -> None:
    gate = Gate()

    def slow(_: StepContext) -> Completed:
        gate.wait()
        return Completed({"output": "done"})

    worker = worker_that(slow, lease=0.6)
    row = started({"a": template()}, "start -> a")
    delivery = hand.take()
    with beside(hand, lambda: run_with(worker, delivery)):
        gate.reached.wait()
        first = hand.redis.zscore(DEADLINES, str(task_of(delivery)))
        while hand.redis.zscore(DEADLINES, str(task_of(delivery))) < first + 900:
            engine().recovery.sweep_deadlines(clock.now_ms())
        gate.opened.set()

    assert attempts(row, "a") == [(1, "success", None)]


def test_a_server_that_has_just_come_back_has_heard_of_nobody_yet(hand: Hand) -> None:
    started({"a": template("a")}, "start -> a")
    delivery = hand.take()
    claim_as(ELSEWHERE, delivery)
    back = clock.now_ms() - 1000 * hand.redis.info("server")["uptime_in_seconds"]

    engine().recovery.sweep_deadlines(back + 3_000)
    assert hand.waiting() == []
    assert back + 3_000 < hand.redis.zscore(DEADLINES, str(task_of(delivery))) <= back + 9_000
    for later in (6_000, 9_000):
        engine().recovery.sweep_deadlines(back + later)

    assert len(hand.waiting()) == 1


def test_a_step_whose_worker_dies_three_times_is_given_up(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")

    for _ in range(3):
        claim_as(ELSEWHERE, hand.take())
        engine().recovery.sweep_deadlines(in_seconds(60))

    assert hand.waiting() == []
    assert attempts(row, "a") == [(number, "failed", "worker_lost") for number in (1, 2, 3)]
    ended = outcome(row)
    assert (ended.status, ended.error_code) == ("failed", "worker_lost")
    assert "3 times" in ended.error_message


def test_a_step_that_is_not_safe_to_repeat_is_not_repeated(hand: Hand) -> None:
    row = started({"a": template("a", failure={"safe_to_retry": False})}, "start -> a")
    claim_as(ELSEWHERE, hand.take())

    engine().recovery.sweep_deadlines(in_seconds(60))
    hand.run_all()

    assert attempts(row, "a") == [(1, "failed", "worker_lost")]
    assert outcome(row).status == "failed"
    assert "not safe to repeat" in outcome(row).error_message


@pytest.mark.parametrize(
    ("config", "is_repeated"),
    [
        ({"method": "GET"}, True),
        ({"method": "POST"}, True),
        ({"method": "POST", "idempotency_key": False}, False),
        ({"method": "POST", "idempotency_key": False, "failure": {"safe_to_retry": True}}, True),
        ({"method": "GET", "failure": {"safe_to_retry": False}}, False),
    ],
)
def test_the_authors_word_counts_before_that_of_the_node_type(hand: Hand, config: dict, is_repeated: bool) -> None:
    row = started({"a": ("http_request", {"url": "http://127.0.0.1:9/", **config})}, "start -> a")
    claim_as(ELSEWHERE, hand.take())

    engine().recovery.sweep_deadlines(in_seconds(60))

    assert bool(hand.waiting()) is is_repeated
    assert outcome(row).status == ("running" if is_repeated else "failed")


def test_a_lost_message_is_sent_again_and_its_step_runs_once(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    lost = hand.take()

    engine().recovery.sweep_deadlines(in_seconds(29))
    assert hand.waiting() == []
    engine().recovery.sweep_deadlines(in_seconds(31))

    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:a::a1"]
    hand.run_all()
    hand.run(lost)
    assert attempts(row, "a") == [(1, "success", None)]


def test_a_message_that_still_stands_in_its_queue_is_not_sent_again(hand: Hand) -> None:
    started({"a": template("a")}, "start -> a")

    engine().recovery.sweep_deadlines(in_seconds(31))
    engine().recovery.sweep_deadlines(in_seconds(62))

    assert len(hand.waiting()) == 1


def test_an_execution_that_takes_too_long_is_ended(hand: Hand) -> None:
    from tests.support.workflows import build

    workflow = build(
        {"start": ("trigger_manual", {}), "pause": ("wait", {"seconds": 3600}), "a": template("a")},
        "start -> pause; pause -> a",
        max_execution_seconds=60,
    )
    from tests.engine.stories import started_with

    row = started_with(workflow)
    hand.run_all()

    engine().recovery.sweep_deadlines(in_seconds(59))
    assert outcome(row).status == "running"
    engine().recovery.sweep_deadlines(in_seconds(61))

    assert outcome(row).status == "timed_out"
    assert execution_events.after(row.execution_id, 0)[-1]["type"] == "execution_failed"
    assert hand.redis.zcard(DEADLINES) == 0
    assert keys_of(row) == {"meta"}


def test_what_ended_in_time_is_watched_no_more(hand: Hand) -> None:
    from tests.engine.stories import started_with
    from tests.support.workflows import build

    workflow = build({"start": ("trigger_manual", {}), "a": template("a")}, "start -> a", max_execution_seconds=60)
    row = started_with(workflow)
    hand.run_all()

    assert hand.redis.zcard(DEADLINES) == 0
    assert outcome(row).status == "completed"


def test_a_deadline_that_nobody_can_make_sense_of_does_not_hide_the_others(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    hand.redis.zadd(DEADLINES, {"no:task": 0, "gone": 0, f"{row.execution_id}:nobody::a1": 0})
    claim_as(ELSEWHERE, hand.take())

    engine().recovery.sweep_deadlines(in_seconds(60))
    hand.run_all()

    assert outcome(row).status == "completed"
    engine().recovery.sweep_deadlines(in_seconds(3600))
    assert "gone" not in hand.redis.zrange(DEADLINES, 0, -1)


def test_a_lost_message_is_sent_again_although_newer_ones_wait(hand: Hand) -> None:
    nodes = {name: template(name) for name in ("lost", "first", "newer")}
    row = started(nodes, "start -> lost; start -> first; first -> newer")
    lost = hand.take()
    assert lost.task_id == f"{row.execution_id}:lost::a1"
    found_at = int(hand.redis.zscore(DEADLINES, str(task_of(lost))))
    wait_until(lambda: clock.now_ms() > found_at - UNCLAIMED_MS, "time goes on")
    hand.deliver()

    engine().recovery.sweep_deadlines(found_at)

    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:newer::a1", lost.task_id]
    hand.run_all()
    assert outcome(row).status == "completed"


def test_a_message_that_is_lost_twice_takes_nothing_of_the_time_in_the_queue(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    first = hand.take()

    for seconds in (31, 62, 93):
        engine().recovery.sweep_deadlines(in_seconds(seconds))
        again = hand.take()
        assert abs(again.args[3] - first.args[3]) <= 1
    hand.run(again)

    (log,) = (log for log in outcome(row).logs if log.node_id == "a")
    assert log.queued_ms > 0


def test_a_message_that_stood_in_a_busy_queue_and_was_lost_takes_nothing_of_it_either(hand: Hand) -> None:
    row = started({"a": template("a"), "b": template("b")}, "start -> a; start -> b")
    lost = hand.take()
    engine().recovery.sweep_deadlines(in_seconds(31))
    assert [delivery.task_id for delivery in hand.waiting()] == [f"{row.execution_id}:b::a1"]
    hand.take()

    engine().recovery.sweep_deadlines(in_seconds(62))

    found = {delivery.task_id: delivery.args[3] for delivery in hand.waiting()}
    assert abs(found[lost.task_id] - lost.args[3]) <= 1
