"""Results that are in SQL before anything follows from them, for workflows that ask for it.

The worker writes what a step has come to, commits that, and only then tells the engine. A step that finds its result
there, whoever wrote it, does not run: it reports that result. So do the steps of executions that reuse what another
one has done, and who has let a step go on is not asked about it again.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DataError, IntegrityError

from pipelit import clock
from pipelit.engine import blobs, recollection, records
from pipelit.engine.core.commands import HoldStep
from pipelit.engine.core.events import (
    Event,
    StepFailed,
    StepIterating,
    StepLost,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import Json, Plan
from pipelit.engine.core.scheduler import MAX_LOSSES
from pipelit.engine.core.state import StepId, scope_text
from pipelit.engine.entries import Checkpoint, Entry, Kind
from pipelit.engine.narrator import Narrator, Report
from pipelit.engine.reading import ClaimedStep
from pipelit.engine.store import Transaction
from pipelit.errors import StepCancelled
from pipelit.extensions import db, transaction
from pipelit.models.execution import ExecutionLog, StepCheckpoint

log = structlog.get_logger(__name__)


class Durability(StrEnum):
    """When a step's result is in SQL: within some tenths of a second, or before its successors are sent."""

    ASYNC = "async"
    SYNC = "sync"


def recorded(step: ClaimedStep) -> tuple[Event, Report] | None:
    """What a step is known to have come to: its success, its final failure, or how this very attempt failed.

    It may have been an earlier attempt that did not live to tell, or one of an execution that is reused.
    """
    task = step.task
    mine = (
        ExecutionLog.execution_id == task.execution_id,
        ExecutionLog.node_id == task.step.node,
        ExecutionLog.scope == scope_text(task.step.scope),
        ExecutionLog.attempt > 0,
        ExecutionLog.status.in_(("success", "failed")),
    )
    query = select(*recollection.TOLD, ExecutionLog.input, ExecutionLog.output).where(*mine)
    rows = blobs.patiently(lambda: db.session.execute(query.order_by(ExecutionLog.attempt)).all())
    success = next((row for row in rows if row.status == "success"), None)
    if success is not None:
        report = replace(step.watch.report(success.input), outputs=success.output)
        return StepSucceeded(task.step, task.attempt, success.route), report
    return _recorded_failure(step, rows) if rows else None


def _recorded_failure(step: ClaimedStep, rows: Sequence[Any]) -> tuple[Event, Report] | None:
    """The end of a step that was given up, or else of the attempt that is to run; `rows` are those of its attempts."""
    events = [recollection.event_of(row) for row in rows]
    losses = sum(isinstance(event, StepLost) for event in events)
    attempt = step.task.attempt
    over: Event | None = None
    match events[-1]:
        case StepFailed(_, _, failure) as last:
            if not failure.retryable or len(events) - losses >= step.node.policy.retry.attempts:
                over = replace(last, attempt=attempt, failure=replace(failure, retryable=False))
        case StepLost(is_safe=is_safe) as last:
            if not is_safe or losses > MAX_LOSSES:
                over = replace(last, attempt=attempt, is_safe=False)
    if over is not None:
        return over, step.watch.report(rows[-1].input)
    for row, event in zip(rows, events, strict=True):
        if row.attempt >= attempt and isinstance(event, StepFailed | StepLost):
            return replace(event, attempt=attempt), step.watch.report(row.input)
    return None


class Releases:
    """Which holds of an execution somebody has released before; looked up when a step is held, if at all.

    `edits` are the settings that were put in the place of those of the steps let go so far, as JSON texts.
    """

    def __init__(self, execution_id: str, durability: str) -> None:
        self.execution_id = execution_id
        self.is_kept = durability == Durability.SYNC
        self.edits: dict[StepId, str] = {}

    def has(self, hold: HoldStep) -> bool:
        """Whether a person has let this step go on already, in this execution or in the one that it reuses."""
        if not self.is_kept:
            return False
        kind = Checkpoint.RELEASED_AFTER if hold.is_after else Checkpoint.RELEASED_BEFORE
        about = {"node_id": hold.step.node, "scope": scope_text(hold.step.scope), "kind": kind}
        query = select(StepCheckpoint.content).filter_by(execution_id=self.execution_id, **about)
        found = blobs.patiently(lambda: db.session.execute(query).first())
        if found is not None and found.content is not None and not hold.is_after:
            self.edits[hold.step] = found.content
        return found is not None


def record(step: ClaimedStep, event: Event, report: Report) -> None:
    """Write down what an attempt has come to, unless that has been done. It is committed when this returns."""
    notes = _Notes(Transaction(step.task.execution_id, step.meta.slug), step.plan, clock.precise_ms())
    match event:
        case StepSucceeded(about, attempt, route):
            notes.log(about, attempt, "success", report, route=route)
        case StepFailed(about, attempt, failure) if failure.code != StepCancelled.code:
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
