"""The oracle sees what it is for: each of its findings is shown to it once, on rows made by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import insert, text

from pipelit import clock
from pipelit.extensions import db, transaction
from pipelit.models import ExecutionLog, WorkflowExecution
from tests.engine.stories import START, started_with, template
from tests.faults import oracle
from tests.faults.counter import Effect
from tests.faults.oracle import Calm, Verdict
from tests.faults.tickets import Ticket
from tests.support.hand import Hand
from tests.support.workflows import build

NOW = clock.now()
FLUSH = round(NOW.timestamp() * 1000)
KEYED, ONCE = "effect1/0", "once2/0"
GOOD = (Effect("t1", KEYED, "key", 1, 1), Effect("t1", ONCE, "", 1, 1))


@dataclass
class Onlooker:
    """What the oracle asks of an installation, without one."""

    redis: Redis

    def rows(self, query: str, **values: object) -> list[Mapping[str, Any]]:
        db.session.rollback()
        return [dict(row) for row in db.session.execute(text(query), values).mappings()]


@pytest.fixture
def judged(hand: Hand) -> Callable[..., Verdict]:
    """Judges an execution that ended two seconds ago, with these effects and logs of its two steps."""

    def judge(
        *effects: Effect,
        flushes: list[int],
        statuses: tuple[str, ...] = ("success",),
        once: str = "success",
        calls: Mapping[str, int] = MappingProxyType({}),
        durability: str = "async",
    ) -> Verdict:
        row = started_with(build({**START, "a": template("a")}, "start -> a"))
        hand.redis.flushall()
        steps = [("effect1", attempt, status) for attempt, status in enumerate(statuses, 1)] + [("once2", 1, once)]
        ended = {
            "status": "completed",
            "completed_at": NOW - timedelta(seconds=2),
            "final_output": 7,
            "durability": durability,
        }
        with transaction() as session:
            kept = session.get(WorkflowExecution, row.execution_id)
            assert kept is not None
            for name, value in ended.items():
                setattr(kept, name, value)
            kept.created_at, kept.durability = NOW - timedelta(seconds=60), durability
            kept.trigger_output = {"payload": {"ticket": "t1"}}
            logs = [
                {"execution_id": row.execution_id, "node_id": node, "attempt": attempt, "status": status}
                | {"component_type": "http_request"}
                for node, attempt, status in steps
            ]
            session.execute(insert(ExecutionLog), logs)
        there: Any = Onlooker(hand.redis)
        expected = {("drawn", "a"): {"": Calm(7, frozenset({KEYED, ONCE}), calls)}}
        return oracle.judge(there, [Ticket("t1", "drawn", "a", True)], expected, effects, flushes=flushes)

    return judge


def test_what_went_well_is_clean(judged: Callable[..., Verdict]) -> None:
    assert str(judged(*GOOD, flushes=[])) == str(Verdict())


@pytest.mark.parametrize("ago", [0, 70_000], ids=["after its end", "before its beginning"])
def test_a_call_too_many_is_seen_although_all_was_lost_when_it_was_not_live(
    judged: Callable[..., Verdict], ago: int
) -> None:
    verdict = judged(replace(GOOD[0], calls=2), GOOD[1], flushes=[FLUSH - ago] * 5)

    assert [found.split(": ")[1] for found in verdict.twice] == ["2 calls in 1 attempts"]


def test_a_loss_in_its_life_and_an_attempt_that_ended_each_explain_one_call(judged: Callable[..., Verdict]) -> None:
    called = replace(GOOD[0], calls=3)

    verdict = judged(called, GOOD[1], flushes=[FLUSH - 30_000], statuses=("failed", "success"))

    assert verdict.is_clean, verdict


@pytest.mark.parametrize(("calls", "is_right"), [(3, True), (2, False)])
def test_a_loss_explains_as_many_calls_as_a_calm_run_makes(
    judged: Callable[..., Verdict], calls: int, is_right: bool
) -> None:
    called = replace(GOOD[0], calls=4)

    assert judged(called, GOOD[1], flushes=[FLUSH - 30_000], calls={KEYED: calls}).is_clean is is_right


@pytest.mark.parametrize(("durability", "is_right"), [("async", False), ("sync", True)])
def test_a_step_succeeds_once_unless_its_execution_writes_results_beforehand(
    judged: Callable[..., Verdict], durability: str, is_right: bool
) -> None:
    """Whatever its workflow says: retries write theirs beforehand in any case."""
    verdict = judged(replace(GOOD[0], calls=2), GOOD[1], flushes=[], statuses=("success",) * 2, durability=durability)

    assert verdict.is_clean is is_right


def test_an_effect_under_another_key_and_one_that_happened_twice_are_seen(judged: Callable[..., Verdict]) -> None:
    verdict = judged(*GOOD, replace(GOOD[0], key="other"), replace(GOOD[1], times=2), flushes=[])

    assert any("under 2 keys" in found for found in verdict.twice)
    assert any("2 times" in found for found in verdict.twice)


@pytest.mark.parametrize(("status", "is_lost"), [("success", True), ("failed", False)])
def test_an_effect_of_one_try_may_be_missing_where_its_step_was_given_up(
    judged: Callable[..., Verdict], status: str, is_lost: bool
) -> None:
    verdict = judged(GOOD[0], flushes=[], once=status)

    assert bool(verdict.lost) is is_lost
