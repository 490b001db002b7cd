"""Results that are in SQL before anything follows from them, for workflows that ask for it.

The worker writes what a step has come to, commits that, and only then tells the engine. A step that finds its result
there, whoever wrote it, does not run: it reports that result.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DataError, IntegrityError

from pipelit import clock
from pipelit.engine import blobs, records
from pipelit.engine.core.events import (
    Event,
    StepFailed,
    StepIterating,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import Json, Plan
from pipelit.engine.core.state import scope_text
from pipelit.engine.entries import Checkpoint, Entry, Kind
from pipelit.engine.narrator import Narrator, Report
from pipelit.engine.reading import ClaimedStep
from pipelit.engine.store import Transaction
from pipelit.extensions import db, transaction
from pipelit.models.execution import ExecutionLog, StepCheckpoint

log = structlog.get_logger(__name__)


class Durability(StrEnum):
    """When a step's result is in SQL: within some tenths of a second, or before its successors are sent."""

    ASYNC = "async"
    SYNC = "sync"


def recorded(step: ClaimedStep) -> tuple[StepSucceeded, Report] | None:
    """The success of a step that is written down already, be it by an earlier attempt that did not live to tell."""
    task = step.task
    mine = (
        ExecutionLog.execution_id == task.execution_id,
        ExecutionLog.node_id == task.step.node,
        ExecutionLog.scope == scope_text(task.step.scope),
        ExecutionLog.status == "success",
    )
    query = select(ExecutionLog.route, ExecutionLog.input, ExecutionLog.output).where(*mine).limit(1)
    row = blobs.read_patiently(lambda: db.session.execute(query).first())
    if row is None:
        return None
    report = replace(step.watch.report(row.input), outputs=row.output)
    return StepSucceeded(task.step, task.attempt, row.route), report


def record(step: ClaimedStep, event: Event, report: Report) -> None:
    """Write down what an attempt has come to, unless that has been done. It is committed when this returns."""
    notes = _Notes(Transaction(step.task.execution_id, step.meta.slug), step.plan, clock.precise_ms())
    match event:
        case StepSucceeded(about, attempt, route):
            notes.log(about, attempt, "success", report, route=route)
        case StepFailed(about, attempt, failure):
            notes.log(about, attempt, "failed", report, failure=failure)
        case StepIterating(about, attempt, total):
            notes.items(about, attempt, total, report)
        case StepSuspended(about, attempt):
            notes.suspension(about, attempt, report)
        case _:
            return
    try:
        blobs.patiently(notes.write_down)
    except (DataError, IntegrityError):
        # A value that the database does not take, or an execution that was deleted: the journal deals with both.
        log.warning("result_not_recorded", task=str(step.task), exc_info=True)


def begin(step: ClaimedStep) -> bool:
    """Write down that an attempt which must not be made twice begins. False if it has begun before.

    Redis alone could not say so: after a loss, steps before this one may run again whose ends SQL had not heard of.
    """
    task, token = step.task, f'"{uuid.uuid4()}"'
    about: dict[str, Json] = {"node_id": task.step.node, "scope": scope_text(task.step.scope), "attempt": task.attempt}
    entry = Entry(task.execution_id, Kind.CHECKPOINT, {**about, "kind": Checkpoint.BEGUN}, output=token)
    mine = select(StepCheckpoint.content).filter_by(execution_id=task.execution_id, kind=Checkpoint.BEGUN, **about)

    def write() -> str | None:
        with transaction() as session:
            records.write(session, [entry], {})
            return session.scalar(mine)

    try:
        # Ours stands there also when the answer to the first try was lost.
        return blobs.patiently(write) == token
    except IntegrityError:
        return False  # The execution was deleted.


class _Notes(Narrator):
    """Keeps the entries of the journal that it is told, instead of sending them."""

    def __init__(self, write: Transaction, plan: Plan, at: float) -> None:
        super().__init__(write, plan, at)
        self.entries: list[Entry] = []

    def write_down(self) -> None:
        with transaction() as session:
            records.write(session, self.entries, {})

    def _record(
        self, kind: Kind, facts: Mapping[str, Json], given: str | None = None, output: str | None = None
    ) -> None:
        self.entries.append(Entry(self.write.execution_id, kind, facts, given, output))
