"""From committed transitions to rows: in batches, by one writer, and the same rows however often it is begun again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from pipelit.engine import journal, records
from pipelit.engine.core.graph import Json
from pipelit.engine.entries import Entry, Kind
from pipelit.engine.journal import Journal
from pipelit.engine.keys import writer_flag
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import ExecutionEvents, PendingTask, WorkflowExecution
from pipelit.models.execution import ExecutionLog, PendingTaskApprover
from pipelit.services import execution_events, executions
from tests.engine.stories import PATIENCE, attempts, author, beside, keys_of, outcome, started, template
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.support.workflows import build

JOURNAL = "pipelit:journal"


def entries(hand: Hand) -> list[tuple[str, dict[str, str]]]:
    found: Any = hand.redis.xrange(JOURNAL)
    return list(found)


def ran(hand: Hand, **start: Any) -> WorkflowExecution:
    """An execution that has ended, all of its journal still to be written."""
    row = started({"a": template("a"), "b": template("b", interrupt_before=True)}, "start -> a; a -> b", **start)
    while hand.deliver():
        pass
    return row


def rows_of(row: WorkflowExecution) -> tuple[Any, ...]:
    """Everything that the journal made of an execution."""
    db.session.rollback()
    kept = executions.detail(row.execution_id, by=None)
    logs = [(log.node_id, log.attempt, log.status, log.output, log.timestamp) for log in kept.logs]
    events = execution_events.after(row.execution_id, 0)
    tasks = db.session.scalar(select(func.count()).select_from(PendingTask))
    return kept.status, kept.final_output, kept.started_at, kept.completed_at, logs, events, tasks


def test_a_writer_that_dies_before_it_deletes_what_it_wrote_changes_nothing(hand: Hand) -> None:
    ran_to_the_end = started({"a": template("a"), "b": template("b")}, "start -> a; a -> b")
    while hand.deliver():
        pass
    batch = [Entry.read(fields) for _, fields in entries(hand)]
    journal.write(batch, engine().store)
    once = rows_of(ran_to_the_end)

    assert engine().drain_journal() == len(batch)

    assert rows_of(ran_to_the_end) == once
    assert once[0] == "completed"
    assert (keys_of(ran_to_the_end), entries(hand)) == ({"meta"}, [])


def test_a_writer_that_dies_before_the_working_state_is_removed_leaves_it_to_the_next(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    while hand.deliver():
        pass
    journal.write([Entry.read(fields) for _, fields in entries(hand)], engine().store)
    assert keys_of(row) == {"meta", "steps", "data", "events"}

    engine().drain_journal()

    assert keys_of(row) == {"meta"}


def test_a_writer_that_dies_after_it_removed_the_working_state_loses_no_events(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    while hand.deliver():
        pass
    journal.write([Entry.read(fields) for _, fields in entries(hand)], engine().store)
    once = rows_of(row)
    engine().store.forget(row.execution_id)

    engine().drain_journal()

    assert rows_of(row) == once
    assert [event["seq"] for event in once[5]] == [1, 2, 3, 4, 5]


def test_a_question_that_was_written_twice_is_asked_once(hand: Hand) -> None:
    row = ran(hand)
    journal.write([Entry.read(fields) for _, fields in entries(hand)], engine().store)

    engine().drain_journal()

    assert outcome(row).status == "interrupted"
    assert db.session.scalar(select(func.count()).select_from(PendingTask)) == 1


def test_entries_of_an_execution_that_was_deleted_keep_nobody_elses(hand: Hand) -> None:
    gone = started({"a": template("a")}, "start -> a").execution_id
    while hand.deliver():
        pass
    kept = started({"a": template("a")}, "start -> a", by=author("bob"))
    while hand.deliver():
        pass
    with db.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM workflow_executions WHERE execution_id = '{gone}'")

    engine().drain_journal()

    assert (outcome(kept).status, entries(hand)) == ("completed", [])
    assert attempts(kept, "a") == [(1, "success", None)]
    assert db.session.get(ExecutionEvents, gone) is None


@pytest.fixture
def spoilt(hand: Hand, database_kind: str) -> WorkflowExecution:
    """An execution with an entry that its database does not take: SQLite minds no length, but a missing node."""
    row = started({"a": template("a")}, "start -> a")
    while hand.deliver():
        pass
    bad = replace(Entry.read(entries(hand)[1][1]), execution_id=row.execution_id)
    facts = {**bad.facts, "scope": "x" * 501, "node_id": "a" if database_kind == "postgresql" else None}
    hand.redis.execute_command(*replace(bad, facts=facts).words())
    return row


def test_an_entry_that_the_database_refuses_keeps_no_others(hand: Hand, spoilt: WorkflowExecution) -> None:
    other = started({"a": template("a")}, "start -> a", by=author("bob"))
    while hand.deliver():
        pass

    # A writer that is slow loses its lock, and leaves what is left to the next.
    wait_until(lambda: engine().drain_journal() >= 0 and entries(hand) == [], "all is written")
    assert (outcome(spoilt).status, outcome(other).status) == ("completed", "completed")
    assert attempts(spoilt, "a") == attempts(other, "a") == [(1, "success", None)]


def test_while_the_database_is_in_trouble_the_journal_is_kept(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    while hand.deliver():
        pass
    waiting = len(entries(hand))

    rename("execution_logs", "elsewhere")
    with pytest.raises(DBAPIError):
        engine().drain_journal()
    rename("elsewhere", "execution_logs")

    assert hand.redis.get(journal.LOCK) is None
    assert engine().drain_journal() == waiting
    assert (outcome(row).status, attempts(row, "a")) == ("completed", [(1, "success", None)])


def rename(table: str, name: str) -> None:
    db.session.rollback()
    with db.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def test_two_writers_at_once_write_everything_once(hand: Hand) -> None:
    rows = [started({"a": template("a")}, "start -> a", by=author(name)) for name in ("ada", "bob", "cy")]
    while hand.deliver():
        pass
    total, written = len(entries(hand)), []

    with beside(hand, *[lambda: written.append(engine().drain_journal())] * 4):
        pass

    assert sum(written) == total
    assert [len(outcome(row).logs) for row in rows] == [2, 2, 2]


def test_a_writer_leaves_the_journal_to_the_one_who_has_the_lock(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    lock = hand.redis.lock(journal.LOCK, timeout=journal.LOCK_SECONDS)
    lock.acquire()

    assert engine().drain_journal() == 0
    assert entries(hand)
    lock.release()

    assert engine().drain_journal() > 0
    assert outcome(row).status == "running"


@contextmanager
def taking_long(hand: Hand, store: Any) -> Iterator[Any]:
    """A store with which the writer loses its lock to another while it writes."""

    class Slow(type(store)):  # type: ignore[misc]
        def forget(self, *execution_ids: str) -> None:
            super().forget(*execution_ids)
            hand.redis.delete(journal.LOCK)

    yield Slow(hand.redis, events_kept=store.events_kept)


def test_a_writer_whose_lock_has_expired_does_no_harm(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    while hand.deliver():
        pass

    with taking_long(hand, engine().store) as slow:
        assert Journal(hand.redis, slow, engine().follow_up).drain() > 0

    assert outcome(row).status == "completed"
    assert hand.redis.get(journal.LOCK) is None


def released(row: WorkflowExecution) -> Entry:
    return Entry(row.execution_id, Kind.RELEASED, {"step": "b", "at": 3})


def ended(row: WorkflowExecution) -> Entry:
    return Entry(row.execution_id, Kind.ENDED, {"status": "completed", "started_at": 1, "at": 4})


@pytest.mark.parametrize(
    ("later", "status"), [([released], "running"), ([released, ended], "completed")], ids=["goes on", "ends"]
)
def test_a_writer_that_was_overtaken_while_it_waited_asks_nothing_anew(
    hand: Hand, later: list[Callable[[WorkflowExecution], Entry]], status: str
) -> None:
    row = ran(hand)
    batch = [Entry.read(fields) for _, fields in entries(hand)]
    is_blocked, written = threading.Event(), []

    def drain_when_blocked() -> None:
        assert is_blocked.wait(PATIENCE)
        written.append(engine().drain_journal())

    with beside(hand, drain_when_blocked), journal.turn(lambda: True) as session:
        is_blocked.set()
        wait_until(lambda: bool(hand.redis.exists(journal.LOCK)), "another writer")
        hand.redis.delete(journal.LOCK, JOURNAL)
        records.write(session, [*batch, *(entry(row) for entry in later)], {row.execution_id: b""})

    assert written == [0]
    db.session.rollback()
    assert executions.fresh(row.execution_id).status == status
    assert db.session.scalar(select(func.count()).select_from(PendingTask)) == 0


def test_what_has_ended_asks_nothing_more(hand: Hand) -> None:
    row = ran(hand)
    question = next(entry for _, fields in entries(hand) if (entry := Entry.read(fields)).kind is Kind.HELD)
    assert executions.stop(row.execution_id)
    outcome(row)

    journal.write([question], engine().store)

    assert outcome(row).status == "cancelled"
    assert db.session.scalar(select(func.count()).select_from(PendingTask)) == 0


def test_what_comes_in_while_the_lock_is_given_back_is_not_left_behind(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    stop = threading.Event()

    def drain_on() -> None:
        while not stop.is_set():
            engine().drain_journal()

    with beside(hand, drain_on, drain_on):
        while hand.deliver():
            pass
        engine().drain_journal()
        stop.set()

    assert entries(hand) == []
    assert outcome(row).status == "completed"


def test_a_transition_calls_the_writer_once_a_second_and_the_end_calls_it_at_once(hand: Hand) -> None:
    started({"a": template("a"), "b": template("b"), "c": template("c")}, "start -> a; a -> b; b -> c")
    while hand.deliver():
        pass

    assert [delivery.args for delivery in hand.waiting("maintenance")] == [[False], [True]]


def test_a_writer_stays_while_executions_go_on_ending_and_is_not_called_again(hand: Hand) -> None:
    ada, rows = author(), []
    workflow = build({"start": ("trigger_manual", {}), "a": template("a")}, "start -> a")
    flag = writer_flag(is_urgent=True)

    def run_another() -> bool:
        rows.append(executions.start(workflow.slug, by=ada))
        while hand.deliver():
            pass
        return len(rows) < 4

    run_another()
    called = len(hand.waiting("maintenance"))
    hand.redis.persist(flag)

    engine().journal.attend(flag, run_another)

    assert [outcome(row).status for row in rows] == ["completed"] * 4
    assert [delivery.args for delivery in hand.waiting("maintenance")][:called] == [[False], [True]]
    assert [delivery.args for delivery in hand.waiting("maintenance")][called:].count([True]) == 0
    assert not hand.redis.exists(flag)


def test_who_waits_for_the_recorded_result_is_told(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    listener = hand.redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(f"pipelit:live:recorded:{row.execution_id}")
    listener.get_message(timeout=5)

    hand.run_all()

    assert listener.get_message(timeout=5)["data"] == "\n{}"
    listener.close()


def test_people_are_asked_whatever_stands_in_their_names_and_the_question(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    facts: dict[str, Json] = {
        "task_id": "t1",
        "step": "a",
        "node_id": "a",
        "kind": "approval",
        "prompt": "\0Pay \ud800?",
        "approvers": ["bo\0b", "bob", "\0", "\ud800x", "y" * 151],
        "at": 1,
    }

    journal.write([Entry(row.execution_id, Kind.HELD, facts)], engine().store)

    asked = db.session.scalars(select(PendingTaskApprover.username).order_by(PendingTaskApprover.username)).all()
    assert list(asked) == ["?x", "bob"]
    assert db.session.scalars(select(PendingTask.prompt)).all() == ["Pay ??"]


def test_an_error_is_kept_whatever_stands_in_it(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    facts = {
        "status": "failed",
        "started_at": 1,
        "at": 2,
        "error": "\0\ud800" + "x" * 9_000,
        "error_code": "step_failed",
    }

    journal.write([Entry(row.execution_id, Kind.ENDED, facts)], engine().store)

    assert len(outcome(row).error_message) == 4_000
    assert db.session.scalar(select(func.count()).select_from(ExecutionLog)) == 1
