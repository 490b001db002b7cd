"""Retries of executions with many steps, and retries of retries: what is reused is found, wherever it was left."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, update

from pipelit import clock
from pipelit.engine.runtime import engine
from pipelit.errors import Invalid, NotFound
from pipelit.extensions import db, transaction
from pipelit.models import ExecutionLog, UserProfile, WorkflowExecution
from pipelit.services import disposal, executions, retries
from pipelit.services.reuse import Retry
from tests.engine.stories import author, outcome, started, template
from tests.engine.test_retries import LOOP, LOOPED, ran
from tests.support.hand import Hand

NESTED = {
    "outer": ("loop", {"items": [[1, 2], [3]]}),
    "inner": ("loop", {"items": "{{ loop.item }}"}),
    "twice": template("{{ loop.item * 2 }}"),
    "last": template("{{ twice.output }}!"),
    "end": template("{{ outer.results }}"),
}
NESTING = (
    "start -> outer; outer =body=> inner; inner =body=> twice; twice -> last; last =return=> inner; "
    "inner =return=> outer; outer -> end"
)


@pytest.fixture
def ada(hand: Hand) -> UserProfile:
    return author()


def again(hand: Hand, row: WorkflowExecution, by: UserProfile, *, most: int = 500, **wanted: Any) -> WorkflowExecution:
    """The retry of an execution, at its end."""
    begun = retries.retry(row.execution_id, Retry(**wanted), by=by, most_rows=most)
    hand.run_all()
    return outcome(begun)


def looped(hand: Hand, by: UserProfile, names: list[str]) -> WorkflowExecution:
    row = started(LOOP, LOOPED, by=by, payload={"names": names})
    hand.run_all()
    return outcome(row)


@pytest.mark.parametrize("most", [500, 0], ids=["at once", "by a worker"])
def test_a_retry_of_a_retry_reuses_the_iterations_of_the_first(hand: Hand, ada: UserProfile, most: int) -> None:
    """The second execution copies of the loop nothing but its end."""
    first = looped(hand, ada, ["Ada", "Bob", "Cy"])
    second = again(hand, first, ada, from_node_id="all", most=most)
    assert [log.scope for log in second.logs if log.scope] == []

    edit = {"each": {"item": "Eve"}}
    third = again(hand, second, ada, from_node_id="greet", scope="each:1", inputs=edit, most=most)

    assert third.final_output == "HI ADA, HI EVE, HI CY"
    assert sorted(ran(third)) == sorted(["greet@each:1", "shout@each:1", "each", "all"])
    origins = {json.loads(log.details)["reused_from"] for log in third.logs if log.scope == "each:0"}
    assert origins == {first.execution_id}


def test_so_does_one_that_begins_in_every_iteration(hand: Hand, ada: UserProfile) -> None:
    first = looped(hand, ada, ["Ada", "Bob"])
    row = first
    for _ in range(2):
        row = again(hand, row, ada, from_node_id="all")

    last = again(hand, row, ada, from_node_id="shout")

    assert last.final_output == first.final_output
    assert sorted(ran(last)) == sorted(["shout@each:0", "shout@each:1", "each", "all"])


def test_loops_inside_of_loops_are_found_one_after_another(hand: Hand, ada: UserProfile) -> None:
    row = started(NESTED, NESTING, by=ada)
    hand.run_all()
    first = outcome(row)
    # Its inner loops have ended: of them the second copies the ends, of the other outer iteration the third.
    second = again(hand, first, ada, from_node_id="inner", scope="outer:1")
    third = again(hand, second, ada, from_node_id="end")

    last = again(hand, third, ada, from_node_id="last", scope="outer:0/inner:1")

    assert last.final_output == first.final_output
    assert sorted(ran(last)) == sorted(["last@outer:0/inner:1", "inner@outer:0", "outer", "end"])


def test_long_lists_are_found_with_the_execution_that_made_them(hand: Hand, ada: UserProfile) -> None:
    first = looped(hand, ada, [f"n{index}" for index in range(130)])
    second = again(hand, first, ada, from_node_id="all")

    third = again(hand, second, ada, from_node_id="greet", scope="each:120")

    assert third.final_output == first.final_output
    assert sorted(ran(third)) == sorted(["greet@each:120", "shout@each:120", "each", "all"])


def test_iterations_that_are_not_stored_any_more_are_said_to_be_gone(hand: Hand, ada: UserProfile) -> None:
    first = looped(hand, ada, ["Ada", "Bob"])
    output = first.final_output
    second = again(hand, first, ada, from_node_id="all")
    executions.remove([first.execution_id], by=ada)
    disposal.clear(lambda: True)
    db.session.rollback()

    with pytest.raises(Invalid, match="not stored any more"):
        retries.retry(second.execution_id, Retry("greet", "each:1"), by=ada)
    whole = again(hand, second, ada, from_node_id="greet")

    assert whole.final_output == output
    assert len([step for step in ran(whole) if "@" in step]) == 4


@contextmanager
def statements() -> Iterator[list[str]]:
    """What the database is asked in the block."""
    asked: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    target: Engine = db.engine
    event.listen(target, "after_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(target, "after_cursor_execute", note)


def test_a_large_execution_is_accepted_without_being_read(hand: Hand, ada: UserProfile) -> None:
    """The web server counts a few of its rows; a worker reads, copies and begins."""
    first = looped(hand, ada, ["Ada", "Bob", "Cy"])

    execution_id, user_id = first.execution_id, ada.id
    db.session.remove()
    ada = db.session.get_one(UserProfile, user_id)
    with statements() as asked:
        begun = retries.retry(execution_id, Retry("shout"), by=ada, most_rows=5)
        of_logs = [statement for statement in asked if "execution_logs" in statement]
    assert len(of_logs) == 1, of_logs
    assert "LIMIT" in of_logs[0]
    assert (begun.status, begun.retried_from_id) == ("pending", execution_id)
    assert db.session.query(ExecutionLog).filter_by(execution_id=begun.execution_id).count() == 0
    assert [delivery.name for delivery in hand.waiting("triggers")] == ["pipelit.executions.begin_retry"]
    hand.run_all()

    ended, original = outcome(begun), outcome(first)
    assert (ended.final_output, ended.retried_from_step, ended.retry_wish) == (original.final_output, "shout", None)
    assert sorted(ran(ended)) == sorted([*(f"shout@each:{index}" for index in range(3)), "each", "all"])


def test_what_is_wrong_with_a_wish_is_said_at_once_or_ends_the_new_execution(hand: Hand, ada: UserProfile) -> None:
    first = looped(hand, ada, ["Ada"])
    for wanted in (Retry("nobody"), Retry("greet", "nonsense"), Retry(scope="each:0")):
        with pytest.raises(Invalid):
            retries.retry(first.execution_id, wanted, by=ada, most_rows=0)

    late = [Retry("greet", "each:7"), Retry("all", inputs={"greet": {"output": 1}})]
    ended = [again(hand, first, ada, most=0, **vars_of(wanted)) for wanted in late]

    assert [(row.status, row.error_code) for row in ended] == [("failed", "start_refused")] * 2
    assert ["no item 7" in str(ended[0].error_message), "scope" in str(ended[1].error_message)] == [True, True]


def vars_of(wanted: Retry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(wanted.kept())
    return found


def accepted(hand: Hand, ada: UserProfile) -> tuple[WorkflowExecution, WorkflowExecution]:
    """An execution, and the wish to run it again of which no worker has heard."""
    first = looped(hand, ada, ["Ada", "Bob", "Cy"])
    begun = retries.retry(first.execution_id, Retry("all"), by=ada, most_rows=0)
    hand.redis.delete("triggers")
    return first, begun


def test_a_wish_whose_message_was_lost_is_carried_out_later_and_once(hand: Hand, ada: UserProfile) -> None:
    first, begun = accepted(hand, ada)
    with transaction() as session:
        mine = update(WorkflowExecution).filter_by(execution_id=begun.execution_id)
        session.execute(mine.values(created_at=clock.now() - timedelta(minutes=10)))
    assert engine().recovery.start_pending() == 0, "it is not begun before what it reuses is there"

    for _ in range(3):
        assert retries.sweep(clock.now()) == 1
    hand.run_all()

    assert (outcome(begun).final_output, ran(outcome(begun))) == (first.final_output, ["all"])
    assert retries.sweep(clock.now()) == 0


def test_who_died_while_copying_leaves_the_rest_to_the_next(hand: Hand, ada: UserProfile) -> None:
    first, begun = accepted(hand, ada)
    row = db.session.get(WorkflowExecution, first.execution_id)
    assert row is not None
    found = next(iter(retries.reuse.prepare(row, Retry("all")).pieces(begun.execution_id)))
    with transaction() as session:
        found(session)

    retries.carry_out(begun.execution_id)
    hand.run_all()

    assert (outcome(begun).final_output, ran(outcome(begun))) == (first.final_output, ["all"])


def test_a_wish_that_is_cancelled_never_begins(hand: Hand, ada: UserProfile) -> None:
    _, begun = accepted(hand, ada)

    executions.cancel(begun.execution_id, by=ada)
    retries.carry_out(begun.execution_id)

    assert (outcome(begun).status, hand.waiting()) == ("cancelled", [])


def test_a_wish_about_what_is_removed_meanwhile_fails_and_says_so(hand: Hand, ada: UserProfile) -> None:
    first, begun = accepted(hand, ada)
    executions.remove([first.execution_id], by=ada)

    retries.carry_out(begun.execution_id)

    assert (outcome(begun).status, outcome(begun).error_code) == ("failed", "start_refused")
    with pytest.raises(NotFound):
        executions.get(first.execution_id, by=ada)
    assert "removed" in str(outcome(begun).error_message)


def test_a_large_retry_waits_for_its_turn_in_its_group(hand: Hand, ada: UserProfile) -> None:
    first = looped(hand, ada, ["Ada"])
    with transaction() as session:
        session.get_one(WorkflowExecution, first.execution_id).workflow.max_concurrent = 1
    running = executions.start(outcome(first).workflow.slug, by=ada, payload={"names": ["Bob"]})

    begun = retries.retry(first.execution_id, Retry("all"), by=ada, most_rows=0)
    hand.deliver("triggers")
    assert (outcome(begun).status, outcome(begun).concurrency_group) == ("pending", running.concurrency_group)
    hand.run_all()

    assert [outcome(row).status for row in (running, begun)] == ["completed", "completed"]
