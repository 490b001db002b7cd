"""Which executions a server has lost: all of them are found, and nothing else is touched."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from sqlalchemy.exc import OperationalError

from pipelit import clock
from pipelit.engine.core.state import StepId
from pipelit.engine.keys import EPOCH
from pipelit.engine.rebuild import Rebuilder
from pipelit.engine.runtime import engine
from pipelit.extensions import transaction
from pipelit.models import StepCheckpoint, WorkflowExecution
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from pipelit.services import executions
from tests.engine.losses import CHAIN, LOOP, LOOPED, lose, restore
from tests.engine.stories import (
    attempts,
    author,
    outcome,
    run_all_with,
    run_with,
    started,
    started_with,
    template,
    worker_that,
)
from tests.support.hand import Hand
from tests.support.workflows import build


def test_what_was_accepted_and_not_begun_begins(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    lose(hand, is_drained=False)
    with transaction() as session:
        kept = session.get(WorkflowExecution, row.execution_id)
        assert kept is not None
        kept.created_at = clock.now().replace(year=2020)
    engine().losses.notice(clock.now_ms() - 60_000)

    assert engine().recovery.start_pending() == 1
    hand.run_all()

    assert outcome(row).final_output == "a"


def test_what_has_ended_is_not_restored(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    hand.run_all()
    lose(hand)

    assert restore(hand) == 0

    assert (hand.waiting(), outcome(row).status) == ([], "completed")


def test_nothing_is_restored_that_is_not_lost(hand: Hand) -> None:
    started(CHAIN, "start -> a; a -> b; b -> c")
    hand.deliver()
    engine().drain_journal()
    hand.redis.delete(EPOCH)

    assert restore(hand) == 0

    assert len(hand.waiting()) == 1
    assert not engine().losses.notice(clock.now_ms())


def test_a_server_that_comes_back_with_an_older_state_is_told_what_sql_knows(hand: Hand) -> None:
    workflow = build({"start": ("trigger_manual", {}), **LOOP}, LOOPED)
    row = started_with(workflow, payload={"names": ["Ada", "Bob", "Cy"]})
    hand.deliver()
    hand.deliver()
    older = copy_of(hand)
    hand.deliver()
    engine().drain_journal()
    hand.redis.flushall()
    older()

    engine().losses.notice(clock.now_ms())
    assert engine().losses.search() == 1
    assert engine().store.load(row.execution_id)[0].state.steps.keys() & {StepId.parse("greet@each:1")} == set()
    hand.run_all()

    assert outcome(row).final_output == "hi Ada, hi Bob, hi Cy"
    assert attempts(row, "greet") == [(1, "success", None)] * 3


@pytest.mark.parametrize("is_recorded", [True, False], ids=["its end is in SQL", "its end is lost"])
@pytest.mark.parametrize("is_found", [True, False], ids=["the search comes first", "its message comes first"])
def test_a_step_that_is_not_safe_to_repeat_does_not_run_twice_on_a_server_that_forgot_it(
    hand: Hand, is_recorded: bool, is_found: bool
) -> None:
    """The server comes back as it was before the step was claimed, which is then known from SQL alone."""
    runs: list[str] = []

    def act(context: StepContext) -> Completed:
        runs.append(context.node_id)
        return Completed({"output": "paid"})

    worker = worker_that(act)
    nodes = {"pay": template(failure={"safe_to_retry": False}), "thank": template()}
    row = started(nodes, "start -> pay; pay -> thank")
    engine().drain_journal()
    older = copy_of(hand)
    run_with(worker, hand.take())
    if is_recorded:
        engine().drain_journal()
    hand.redis.flushall()
    older()

    engine().losses.notice(clock.now_ms())
    if is_found:
        engine().losses.search()
    run_all_with(worker, hand)

    assert runs == (["pay", "thank"] if is_recorded else ["pay"])
    assert outcome(row).status == ("completed" if is_recorded else "failed")
    assert outcome(row).error_code == (None if is_recorded else "worker_lost")


def test_one_execution_that_cannot_be_restored_does_not_keep_the_others(hand: Hand) -> None:
    ada = author()
    broken = started({"a": template("a")}, "start -> a", by=ada)
    whole = started({"a": template("b")}, "start -> a", by=ada)
    engine().drain_journal()
    with transaction() as session:
        session.add(StepCheckpoint(execution_id=broken.execution_id, node_id="a", kind="iterating", content="{"))
    lose(hand)

    assert restore(hand) == 1
    hand.run_all()

    assert outcome(whole).status == "completed"


def test_a_search_goes_on_where_the_last_one_stopped(hand: Hand) -> None:
    workflow = build({"start": ("trigger_manual", {}), "a": template("a")}, "start -> a")
    ada = author()
    rows = [executions.start(workflow.slug, by=ada) for _ in range(230)]
    lose(hand)

    assert engine().losses.notice(clock.now_ms())

    assert searched_through() == len(rows)
    assert len(hand.waiting()) == len(rows)


def test_what_may_have_begun_before_a_loss_waits_until_workers_have_said_what_they_run(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    lose(hand, is_drained=False)
    with transaction() as session:
        kept = session.get(WorkflowExecution, row.execution_id)
        assert kept is not None
        kept.created_at = clock.now().replace(year=2020)

    engine().losses.notice(clock.now_ms())

    assert engine().recovery.start_pending() == 0
    assert hand.waiting() == []


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_search_that_is_overtaken_by_another_loss_leaves_everything_to_the_next(hand: Hand, is_noticed: bool) -> None:
    workflow = build({"start": ("trigger_manual", {}), "a": template("a")}, "start -> a")
    ada = author()
    rows = [executions.start(workflow.slug, by=ada) for _ in range(130)]
    lose(hand)
    losses = engine().losses
    assert losses.notice(clock.now_ms())

    # With the third that it looks at, everything is lost once more; what it restores after that nobody has announced.
    overtaken = Overtaken(losses.rebuilder, lambda: lose_again(hand, is_noticed=is_noticed), after=3)
    assert replace(losses, rebuilder=overtaken).search() == 2
    assert hand.waiting() == []

    assert is_noticed or losses.notice(clock.now_ms())
    assert searched_through() == len(rows)
    assert len(hand.waiting()) == len(rows)


def test_a_search_during_which_the_database_goes_away_passes_nobody_over(hand: Hand) -> None:
    ada = author()
    rows = [started({"a": template("a")}, "start -> a", by=ada) for _ in range(3)]
    lose(hand)
    losses = engine().losses
    assert losses.notice(clock.now_ms())

    cut_off = Overtaken(losses.rebuilder, go_away, after=2)
    with pytest.raises(OperationalError):
        replace(losses, rebuilder=cut_off).search()

    assert searched_through() == len(rows) - 1
    assert len(hand.waiting()) == len(rows)


@dataclass
class Overtaken:
    """A rebuilder that something happens to on the way."""

    rebuilder: Rebuilder
    happen: Callable[[], None]
    after: int

    def restore(self, row: WorkflowExecution, may_restore: Callable[[], bool]) -> bool:
        self.after -= 1
        if self.after == 0:
            self.happen()
        return self.rebuilder.restore(row, may_restore)


def go_away() -> None:
    """What a session says whose connection was cut off."""
    raise OperationalError("SELECT", {}, ConnectionError("server closed the connection unexpectedly"))


def lose_again(hand: Hand, *, is_noticed: bool) -> None:
    lose(hand)
    if is_noticed:
        # A tick that runs beside the one that searches.
        assert engine().losses.notice(clock.now_ms() + 1)


def test_a_loss_that_nobody_noticed_is_found_by_the_next_search(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    engine().drain_journal()
    restore(hand) if engine().losses.notice(clock.now_ms()) is None else engine().losses.search()
    hand.redis.delete(f"pipelit:x:{row.execution_id}:meta", "default")

    assert engine().losses.search() == 0
    engine().losses.search_anew()
    assert engine().losses.search() == 1

    hand.run_all()
    assert outcome(row).status == "completed"


def searched_through() -> int:
    """Search tick by tick until everything was looked at; how many executions were restored."""
    restored = 0
    while engine().losses.is_searching(clock.now_ms() + 60_000):
        restored += engine().losses.search()
    return restored


def copy_of(hand: Hand) -> Callable[[], None]:
    """Everything the server has, to be put back later as by a restart from an older copy."""
    kept = {key: hand.redis.execute_command("DUMP", key, NEVER_DECODE=True) for key in hand.redis.keys("*")}

    def put_back() -> None:
        for key, dumped in kept.items():
            hand.redis.execute_command("RESTORE", key, 0, dumped)

    return put_back
