"""The oracle sees what must not become of executions that somebody cancelled or retried, or that were too many."""

import json
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from pipelit import clock
from pipelit.extensions import transaction
from pipelit.models import ExecutionEvents, ExecutionLog, WorkflowExecution
from tests.engine.stories import START, started_with, template
from tests.faults import crowds, oracle
from tests.faults.counter import Effect
from tests.faults.oracle import Calm, Verdict
from tests.faults.test_oracle import Onlooker
from tests.faults.tickets import Fate, Retrial, Ticket, Wish
from tests.faults.workflows import Limit
from tests.support.hand import Hand
from tests.support.workflows import build

FIRST, SECOND = "effect1/0", "effect2/0"
NOW = clock.now()
CALM = {("drawn", "a"): {"": Calm(7, frozenset({FIRST, SECOND}))}}
STOPPED = Wish(cancelled_after=0.0)


@dataclass
class Rows:
    """Executions as a run would have left them."""

    hand: Hand

    def end(self, ticket: str, status: str, *succeeded: str, seconds: float = 60) -> str:
        """An execution that began so long ago and ended two seconds ago, with steps that succeeded."""
        row = started_with(build({**START, "a": template("a")}, "start -> a"))
        self.hand.redis.flushall()
        with transaction() as session:
            kept = session.get(WorkflowExecution, row.execution_id)
            assert kept is not None
            kept.status, kept.completed_at, kept.final_output = status, NOW - timedelta(seconds=2), 7
            kept.created_at, kept.trigger_output = NOW - timedelta(seconds=seconds), {"payload": {"ticket": ticket}}
            logs = [
                {"execution_id": row.execution_id, "node_id": node, "status": "success", "component_type": "template"}
                for node in succeeded
            ]
            if logs:
                session.execute(insert(ExecutionLog), logs)
        return row.execution_id

    def judge(self, *effects: Effect, fate: Fate, tickets: tuple[str, ...] = ("t1",), **more: Any) -> Verdict:
        there: Any = Onlooker(self.hand.redis)
        fired = [Ticket(number, "drawn", "a", is_accepted=True) for number in tickets]
        return oracle.judge(there, fired, CALM, effects, flushes=[], fates={"t1": fate}, **more)


@pytest.fixture
def rows(hand: Hand) -> Rows:
    return Rows(hand)


def done(ticket: str, name: str) -> Effect:
    return Effect(ticket, name, f"{ticket} {name}", 1, 1)


def retried(*again: str, before: tuple[str, ...], after: tuple[str, ...]) -> Fate:
    """A retry was accepted, with these nodes to run again and these effects as they stood."""
    ticket = Ticket("t1r", "drawn", "a", is_accepted=True)
    return Fate("t1", Wish(is_retried=True), retrial=Retrial(ticket, again, before, after))


def test_what_was_cancelled_may_have_done_a_part(rows: Rows) -> None:
    rows.end("t1", "cancelled", "effect1")

    verdict = rows.judge(done("t1", FIRST), fate=Fate("t1", STOPPED, cancel="cancelled"))

    assert str(verdict) == str(Verdict())


def test_what_nobody_cancelled_is_not_cancelled(rows: Rows) -> None:
    rows.end("t1", "cancelled")

    assert len(rows.judge(fate=Fate("t1", Wish())).different) == 1


def test_what_is_said_to_be_cancelled_stays_so(rows: Rows) -> None:
    rows.end("t1", "completed", "effect1", "effect2")

    verdict = rows.judge(done("t1", FIRST), done("t1", SECOND), fate=Fate("t1", STOPPED, cancel="cancelled"))

    assert [found.partition(":")[2] for found in verdict.different] == [" said to be cancelled, and is not"]


@pytest.mark.parametrize(
    ("effects", "kind"),
    [([SECOND], None), ([], "lost"), ([FIRST, SECOND], "different")],
    ids=["what is left", "less", "what was reused"],
)
def test_a_retry_does_what_it_does_not_reuse_and_nothing_else(rows: Rows, effects: list[str], kind: str | None) -> None:
    rows.end("t1", "completed", "effect1", "effect2")
    rows.end("t1r", "completed", *(name.split("/")[0] for name in effects))
    fate = retried("effect2", "end", before=(FIRST, SECOND), after=(FIRST, SECOND))

    verdict = rows.judge(done("t1", FIRST), done("t1", SECOND), *(done("t1r", name) for name in effects), fate=fate)

    assert [name for name, found in verdict.by_kind().items() if found] == ([kind] if kind else [])


@pytest.mark.parametrize("effects", [[SECOND], [FIRST, SECOND]])
def test_what_succeeded_while_a_retry_was_asked_for_may_be_done_again(rows: Rows, effects: list[str]) -> None:
    rows.end("t1", "cancelled", "effect1")
    rows.end("t1r", "completed", *(name.split("/")[0] for name in effects))
    fate = Fate("t1", STOPPED, cancel="cancelled", retrial=retried(before=(), after=(FIRST,)).retrial)

    verdict = rows.judge(done("t1", FIRST), *(done("t1r", name) for name in effects), fate=fate)

    assert str(verdict) == str(Verdict())


def test_a_retry_that_was_accepted_and_is_not_there_is_lost(rows: Rows) -> None:
    rows.end("t1", "completed", "effect1", "effect2")

    verdict = rows.judge(done("t1", FIRST), done("t1", SECOND), fate=retried("start", before=(), after=()))

    assert [found.partition(":")[0] for found in verdict.lost] == ["drawn t1r"]


@pytest.mark.parametrize(("overlap", "is_right"), [("queue", False), ("drop", True), ("cancel_previous", True)])
def test_a_workflow_may_cancel_what_it_does_not_let_wait(rows: Rows, overlap: str, is_right: bool) -> None:
    rows.end("t1", "cancelled")

    verdict = rows.judge(fate=Fate("t1", Wish()), limits={"drawn": Limit(1, overlap, is_by_choice=False)})

    assert verdict.is_clean is is_right


def test_an_execution_that_says_twice_that_it_has_ended_is_seen(rows: Rows) -> None:
    execution_id = rows.end("t1", "completed", "effect1", "effect2")
    told = [{"type": kind, "data": {}} for kind in ("execution_completed", "execution_cancelled")]
    with transaction() as session:
        session.add(ExecutionEvents(execution_id=execution_id, events=zlib.compress(json.dumps(told).encode())))

    verdict = rows.judge(done("t1", FIRST), done("t1", SECOND), fate=Fate("t1", Wish()))

    assert verdict.twice == [f"execution {execution_id} told ['execution_completed', 'execution_cancelled']"]


def test_one_that_began_while_as_many_were_live_as_may_be_is_too_many() -> None:
    spans = [(0.0, 10.0, "first"), (1.0, 5.0, "second"), (4.0, 6.0, "third"), (6.0, 7.0, "fourth")]

    assert list(crowds.too_many(spans, 2)) == [("third", ["second", "first"])]
    assert list(crowds.too_many(spans, 3)) == []


def test_one_may_begin_in_the_moment_in_which_another_ends() -> None:
    assert list(crowds.too_many([(0.0, 5.0, "first"), (5.0, 6.0, "second")], 1)) == []
