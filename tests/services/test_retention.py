"""What is old goes, with all that belongs to it and the space it took; what lives stays."""

import json
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, make_url, select, update

from pipelit import clock
from pipelit.engine.leftovers import forget_leftovers
from pipelit.engine.runtime import engine
from pipelit.errors import NotFound
from pipelit.extensions import db, transaction
from pipelit.models import (
    Blob,
    CompiledPlan,
    ExecutionEvents,
    ExecutionLog,
    IdempotencyRecord,
    Workflow,
    WorkflowExecution,
    WorkflowVersion,
)
from pipelit.models.node import ComponentConfig, WorkflowNode
from pipelit.services import aftermath, disposal, executions, retention, retries, space
from pipelit.services.executions import Filters
from pipelit.services.paging import Page
from pipelit.services.retention import Policy
from pipelit.services.reuse import Retry
from pipelit.tasks.maintenance import tick
from tests.engine.stories import START, author, outcome, started, started_with, template
from tests.support.hand import Hand
from tests.support.workflows import build

NOW = clock.now()
DAYS = timedelta(days=1)
MONTH = Policy(days=30, per_workflow=0, total=0)


def sweep(policy: Policy, days: float = 0.0) -> int:
    """A sweep so many days from now."""
    return retention.sweep(policy, NOW + days * DAYS, seconds=300)


def ids() -> set[str]:
    db.session.rollback()
    return set(db.session.scalars(select(WorkflowExecution.execution_id)))


def count(model: Any) -> int:
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(model)) or 0


def ended_before(row: WorkflowExecution, days: Sequence[float], **more: Any) -> list[str]:
    """Ended executions like this one, that began and ended so many days ago."""
    made = []
    for age in days:
        at = NOW - age * DAYS
        made.append(
            {
                "execution_id": str(uuid.uuid4()),
                "workflow_id": row.workflow_id,
                "workflow_version_id": row.workflow_version_id,
                "plan_hash": row.plan_hash,
                "trigger_node_id": "start",
                "status": "completed",
                "trigger_output": {},
                "created_at": at,
                "completed_at": at,
                **more,
            }
        )
    with transaction() as session:
        session.execute(insert(WorkflowExecution), made)
    return [execution["execution_id"] for execution in made]


def furnish(execution_ids: Sequence[str], *, logs: int, size: int = 100) -> None:
    """Give executions what they leave: log rows, events and a large output."""
    kept = [
        {"execution_id": owner, "node_id": "a", "scope": f"each:{index}", "attempt": 1, "component_type": "template"}
        | {"status": "success", "output": json.dumps({"output": "x" * size})}
        for owner in execution_ids
        for index in range(logs)
    ]
    with transaction() as session:
        session.execute(insert(ExecutionLog), kept)
        session.execute(
            insert(ExecutionEvents),
            [{"execution_id": owner, "events": zlib.compress(b"[]")} for owner in execution_ids],
        )
        session.execute(
            insert(Blob),
            [{"id": str(uuid.uuid4()), "execution_id": owner, "content": b"x" * size} for owner in execution_ids],
        )


def made_old(row: WorkflowExecution, days: float) -> None:
    """Have an execution begun so many days earlier."""
    with transaction() as session:
        mine = WorkflowExecution.execution_id == row.execution_id
        session.execute(update(WorkflowExecution).where(mine).values(created_at=NOW - days * DAYS))


def remembered_since(workflow: Workflow, revision: int, *, hours: int) -> None:
    """Have this process know the plan of a workflow for so long."""
    key, kept = (workflow.id, revision, "start"), engine().plans.compiled
    found = kept.get(key)
    assert found is not None
    kept.put(key, replace(found, at_ms=found.at_ms - hours * 3_600_000))


def waiting(hand: Hand) -> WorkflowExecution:
    """An execution that waits for an hour and then says so."""
    nodes = {**START, "pause": ("wait", {"seconds": 3600}), "end": template("awake")}
    row = started_with(build(nodes, "start -> pause; pause -> end"))
    while delivery := hand.take():
        hand.run(delivery)
    return row


def test_the_file_of_the_database_gets_smaller_and_what_runs_goes_on(hand: Hand, database_url: str) -> None:
    running = waiting(hand)
    made_old(running, 40)
    old = ended_before(running, [31.0] * 2_000)
    furnish(old, logs=3, size=1_000)
    young = ended_before(running, [1.0, 29.9])
    is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
    file = Path(str(make_url(database_url).database))
    if is_sqlite:
        space.give_back(time.monotonic() + 60)
        with db.engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        before = file.stat().st_size

    assert sweep(MONTH) == 2_000

    assert ids() == {running.execution_id, *young}
    assert [count(model) for model in (ExecutionEvents, Blob)] == [0, 0]
    logs = outcome(running).logs
    assert count(ExecutionLog) == len(logs) > 0
    if is_sqlite:
        assert file.stat().st_size < before / 4
        with db.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    engine().recovery.sweep_deadlines(clock.now_ms() + 4_000_000)
    hand.run_all()
    assert outcome(running).final_output == "awake"


def test_an_execution_counts_from_its_end(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    hand.run_all()
    outcome(row)
    made_old(row, 100)

    assert sweep(MONTH, 29) == 0
    assert sweep(MONTH, 31) > 0
    assert ids() == set()


def test_nothing_ages_where_nothing_is_to(hand: Hand) -> None:
    row = waiting(hand)
    ended_before(row, [1_000.0])

    assert sweep(Policy(0, 0, 0)) == 0


def test_of_each_workflow_the_newest_stay(hand: Hand) -> None:
    crowded, quiet = waiting(hand), started_with(build({**START, "a": template("a")}, "start -> a"))
    many = ended_before(crowded, [9, 8, 7, 6, 5])
    few = ended_before(quiet, [50, 40])

    assert sweep(Policy(0, per_workflow=3, total=0)) == 2

    assert ids() == {crowded.execution_id, quiet.execution_id, *many[2:], *few}


def test_in_all_the_newest_stay(hand: Hand) -> None:
    crowded, quiet = waiting(hand), started_with(build({**START, "a": template("a")}, "start -> a"))
    many = ended_before(crowded, [9, 8, 7, 6, 5])
    few = ended_before(quiet, [50, 6.5])

    assert sweep(Policy(0, 0, total=3)) == 4

    assert ids() == {crowded.execution_id, quiet.execution_id, few[1], *many[3:]}


def test_what_a_live_execution_has_started_stays_with_it(hand: Hand) -> None:
    parent = waiting(hand)
    (child,) = ended_before(parent, [90], parent_execution_id=parent.execution_id)
    (orphan,) = ended_before(parent, [90])

    assert sweep(MONTH) == 1
    assert ids() == {parent.execution_id, child}

    executions.cancel(parent.execution_id, by=author("bob"))
    outcome(parent)
    assert sweep(MONTH) == 1
    assert not {child, orphan} & ids()


def test_what_is_still_to_be_followed_up_stays(hand: Hand) -> None:
    row = waiting(hand)
    (failed,) = ended_before(row, [90], status="failed", needs_follow_up=True)

    assert sweep(MONTH) == 0
    aftermath.sweep(NOW)
    assert sweep(MONTH) == 1

    assert failed not in ids()


def test_one_execution_may_have_left_more_than_is_deleted_at_once(hand: Hand) -> None:
    row = waiting(hand)
    furnish(ended_before(row, [40]), logs=disposal.ROWS * 2 + 1)

    assert sweep(MONTH) == 1

    assert outcome(row).logs
    assert count(ExecutionLog) == len(outcome(row).logs)


def test_plans_and_versions_go_when_nothing_refers_to_them_and_the_current_ones_work_again(hand: Hand) -> None:
    ada = author()
    workflow = build({**START, "a": template("a")}, "start -> a")
    first = executions.start(workflow.slug, by=ada)
    hand.run_all()
    outcome(first)
    executions.remove([first.execution_id], by=ada)
    assert sweep(MONTH) == 1
    with transaction() as session:
        session.execute(update(Workflow).values(revision=Workflow.revision + 1))
    second = executions.start(workflow.slug, by=ada)
    hand.run_all()
    outcome(second)
    assert (count(CompiledPlan), count(WorkflowVersion)) == (1, 2)

    assert sweep(MONTH, 1) == 0
    with transaction() as session:
        session.execute(update(Workflow).values(updated_at=NOW - 5 * DAYS))
    assert sweep(MONTH, 3) == 1
    assert [version.revision for version in db.session.scalars(select(WorkflowVersion))] == [2]

    assert sweep(MONTH, 40) == 2
    assert (count(CompiledPlan), count(WorkflowVersion), ids()) == (0, 1, set())
    remembered_since(workflow, 2, hours=13)
    third = executions.start(workflow.slug, by=ada)
    hand.run_all()
    assert outcome(third).status == "completed"


def test_a_plan_that_is_long_in_use_by_a_process_is_stored_anew(hand: Hand) -> None:
    ada = author()
    workflow = build({**START, "a": template("a")}, "start -> a")
    executions.start(workflow.slug, by=ada)
    with transaction() as session:
        session.execute(update(CompiledPlan).values(compiled_at=NOW - 10 * DAYS))
    remembered_since(workflow, 1, hours=13)

    executions.start(workflow.slug, by=ada)

    db.session.rollback()
    assert db.session.scalars(select(CompiledPlan.compiled_at)).one() >= NOW


def test_a_deleted_workflow_goes_after_its_last_execution(hand: Hand) -> None:
    row = waiting(hand)
    executions.cancel(row.execution_id, by=author("bob"))
    outcome(row)
    with transaction() as session:
        session.execute(update(Workflow).values(deleted_at=NOW - 31 * DAYS))

    assert sweep(MONTH) == 0
    assert sweep(MONTH, 31) >= 2

    assert [count(model) for model in (Workflow, WorkflowNode, ComponentConfig, WorkflowVersion)] == [0, 0, 0, 0]


def test_what_was_answered_long_ago_goes(hand: Hand) -> None:
    with transaction() as session:
        for age in (0.5, 2):
            session.add(IdempotencyRecord(owner="o", key=str(age), fingerprint="f", created_at=NOW - age * DAYS))

    assert sweep(MONTH) == 1
    assert db.session.scalars(select(IdempotencyRecord.key)).all() == ["0.5"]


def test_two_sweeps_do_not_meet(hand: Hand) -> None:
    ended_before(waiting(hand), [40])

    with hand.redis.lock(retention.LOCK, timeout=60):
        assert sweep(MONTH) == 0

    assert sweep(MONTH) == 1


def test_a_sweep_that_has_no_time_left_leaves_the_rest_to_the_next(hand: Hand) -> None:
    ended_before(waiting(hand), [40])

    assert retention.sweep(MONTH, NOW, seconds=0) == 0
    assert sweep(MONTH) == 1


def test_what_is_half_removed_is_gone_for_everybody_and_goes_with_the_next_sweep(hand: Hand) -> None:
    ada = author()
    (old,) = ended_before(waiting(hand), [40])
    furnish([old], logs=disposal.ROWS * 2 + 1)
    kept = count(ExecutionLog)
    with transaction() as session:
        assert disposal.mark(session, [old], NOW) == 1

    assert disposal.clear(lambda: count(ExecutionLog) == kept) == 0

    assert count(ExecutionLog) == kept - disposal.ROWS
    assert old in ids()
    for look in (executions.get, executions.detail, lambda one, by: retries.retry(one, Retry(), by=by)):
        with pytest.raises(NotFound):
            look(old, by=ada)
    assert old not in {row.execution_id for row in executions.listed(Filters(), Page(50, 0), by=ada).items}
    assert sweep(Policy(0, 0, 0)) == 1
    assert old not in ids()
    assert count(ExecutionLog) == kept - 2 * disposal.ROWS - 1


def test_a_retry_of_what_is_removed_meanwhile_begins_nothing(hand: Hand) -> None:
    """It has read what it would reuse, and somebody else removes that before it is copied."""
    ada = author()
    row = started_with(build({**START, "a": template("a")}, "start -> a"))
    hand.run_all()
    outcome(row)
    seen = []

    class Removing(Mapping[str, Any]):
        """What somebody edits: read after the old execution, which goes in this moment."""

        def __getitem__(self, name: str) -> Any:
            raise KeyError(name)

        def __len__(self) -> int:
            return 0

        def __iter__(self) -> Iterator[str]:
            seen.append(True)
            executions.remove([row.execution_id], by=ada)
            return iter(())

    with pytest.raises(NotFound, match="no such execution any more"):
        retries.retry(row.execution_id, Retry("a", inputs=Removing()), by=ada)

    assert (seen, ids()) == ([True], {row.execution_id})


def test_what_somebody_deletes_is_gone_at_once_and_its_rows_with_the_next_sweep(hand: Hand) -> None:
    row = waiting(hand)
    many = ended_before(row, [1.0] * 3)
    furnish(many, logs=2)
    kept = count(ExecutionLog)

    executions.remove(many, by=author("bob"))

    assert count(ExecutionLog) == kept
    with pytest.raises(NotFound):
        executions.fresh(many[0])
    assert sweep(Policy(0, per_workflow=1, total=1)) == 3
    assert (ids(), count(ExecutionLog)) == ({row.execution_id}, kept - 6)


def test_what_is_marked_takes_the_place_of_nothing_that_is_kept(hand: Hand) -> None:
    many = ended_before(waiting(hand), [9, 8, 7, 6])
    with transaction() as session:
        disposal.mark(session, many[2:], NOW)

    for rule in (retention.RULES[2], retention.RULES[3]):
        assert rule(Policy(0, per_workflow=2, total=2), NOW, lambda: True) == 0

    assert set(many) <= ids()


def test_a_sweep_that_has_lost_its_lock_stops_and_leaves_it_to_its_new_holder(hand: Hand) -> None:
    old = set(ended_before(waiting(hand), [40, 41]))

    class Overtaken:
        """A policy that is read in the moment in which another sweep takes the lock."""

        per_workflow = total = 0

        @property
        def days(self) -> int:
            hand.redis.set(retention.LOCK, "another")
            return 30

    policy: Any = Overtaken()
    assert sweep(policy) == 0

    assert hand.redis.get(retention.LOCK) == "another"
    assert old <= ids()
    hand.redis.delete(retention.LOCK)
    assert sweep(MONTH) == 2
    assert not old & ids()


def test_the_tick_sweeps_once_a_minute(hand: Hand) -> None:
    row = waiting(hand)
    ended_before(row, [40])
    hand.redis.set("pipelit:tick", 59)

    for number in (59, 60):
        tick.run(number)
        assert (len(ids()) == 1) is (number == 60)


def test_state_that_nobody_will_look_at_is_found_and_removed(hand: Hand) -> None:
    live, gone, ended = waiting(hand), waiting(hand), waiting(hand)
    with transaction() as session:
        mine = WorkflowExecution.execution_id == ended.execution_id
        session.execute(update(WorkflowExecution).where(mine).values(status="completed"))
        session.delete(session.get(WorkflowExecution, gone.execution_id))
    before = hand.redis.hgetall(f"pipelit:x:{live.execution_id}:meta")

    found = sum(forget_leftovers(hand.redis, engine().store, steps=1) for _ in range(20))

    assert found == 2
    left = {key.split(":")[2] for key in hand.redis.keys("pipelit:x:*") if hand.redis.ttl(key) < 0}
    assert left == {live.execution_id}
    assert hand.redis.hgetall(f"pipelit:x:{live.execution_id}:meta") == before
    assert all(0 < hand.redis.ttl(f"pipelit:x:{row.execution_id}:meta") <= 300 for row in (gone, ended))


@pytest.mark.parametrize("name", ["execution_logs", "execution_events", "blobs", "pending_tasks"])
def test_what_belongs_to_an_execution_is_found_by_what_it_refers_to(name: str) -> None:
    assert name in {table.name for table in disposal.parts()}
