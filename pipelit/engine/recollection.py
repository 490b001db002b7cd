"""What SQL remembers of an execution, as the events that the core was told."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import select

from pipelit.engine.core import codec
from pipelit.engine.core.events import (
    Event,
    Failure,
    StepFailed,
    StepIterating,
    StepLost,
    StepReleased,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import NodeId
from pipelit.engine.core.state import StepId, parse_scope
from pipelit.engine.entries import Checkpoint
from pipelit.engine.narrator import Report
from pipelit.engine.store import batched
from pipelit.extensions import db
from pipelit.models.execution import ExecutionLog, StepCheckpoint

AT_ONCE = 200
"""Outputs read by one query."""

LOST = "worker_lost"

TOLD = (
    ExecutionLog.id,
    ExecutionLog.node_id,
    ExecutionLog.scope,
    ExecutionLog.attempt,
    ExecutionLog.status,
    ExecutionLog.route,
    ExecutionLog.error,
    ExecutionLog.error_code,
    ExecutionLog.details,
    ExecutionLog.timestamp,
)
"""What of a row says which event it was."""

Attempt = tuple[StepId, int]


class Place(NamedTuple):
    """Where an attempt's row is, and when the attempt ended."""

    id: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Recollection:
    """Events in the order of their rows; rows and checkpoints by attempt."""

    events: tuple[Event, ...]
    rows: Mapping[Attempt, Place]
    checkpoints: Mapping[tuple[Attempt, str], str | None]

    def outputs(self, attempts: Iterable[Attempt]) -> dict[Attempt, str]:
        """The outputs of those of the attempts that left some, as JSON texts."""
        by_id = {self.rows[attempt].id: attempt for attempt in attempts if attempt in self.rows}
        found: dict[Attempt, str] = {}
        for ids in batched(by_id, AT_ONCE):
            query = select(ExecutionLog.id, ExecutionLog.output).where(ExecutionLog.id.in_(ids))
            found |= {by_id[row.id]: row.output for row in db.session.execute(query) if row.output is not None}
        return found

    def report(self, event: Event) -> Report:
        """What a step that has not ended had to report when it was put aside."""
        match event:
            case StepIterating(step, attempt):
                kept = self._kept((step, attempt), Checkpoint.ITERATING)
                items = tuple(codec.dump_json(item) for item in kept["items"])
                return replace(Report.read(kept["report"]), items=items)
            case StepSuspended(step, attempt):
                kept = self._kept((step, attempt), Checkpoint.WAITING)
                return replace(Report.read(kept["report"]), wake_ms=kept["wake_ms"])
            case StepReleased(step, is_after) if not is_after:
                return Report(outputs=self.checkpoints[(step, 0), Checkpoint.RELEASED_BEFORE])
            case _:
                return Report()

    def _kept(self, attempt: Attempt, kind: Checkpoint) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads(self.checkpoints[attempt, kind] or "{}")
        return kept


def load(execution_id: str) -> Recollection:
    """Everything that is remembered of an execution, outputs excepted. Needs an application context."""
    logs = db.session.execute(
        select(*TOLD).where(ExecutionLog.execution_id == execution_id).order_by(ExecutionLog.id)
    ).all()
    mine = select(StepCheckpoint).where(StepCheckpoint.execution_id == execution_id)
    checkpoints = db.session.scalars(mine.order_by(StepCheckpoint.id)).all()
    rows = {(_step(row), row.attempt): Place(row.id, round(row.timestamp.timestamp() * 1000)) for row in logs}
    told = [event for checkpoint in checkpoints if (event := _checkpoint_event(checkpoint)) is not None]
    told += [event for row in logs if (event := event_of(row)) is not None]
    return Recollection(
        events=tuple(told),
        rows=rows,
        checkpoints={((_step(kept), kept.attempt), kept.kind): kept.content for kept in checkpoints},
    )


def _step(row: Any) -> StepId:
    return StepId(NodeId(row.node_id), parse_scope(row.scope))


def event_of(row: Any) -> Event | None:
    """What the core was told when the row was written; nothing of triggers and of skipped steps."""
    step = _step(row)
    if row.status == "success" and row.attempt:
        return StepSucceeded(step, row.attempt, row.route)
    if row.status != "failed":
        return None
    details = json.loads(row.details) if row.details else {}
    is_retryable = bool(details.get("retryable"))
    if row.error_code == LOST:
        return StepLost(step, row.attempt, is_safe=is_retryable)
    failure = Failure(row.error_code or "", row.error or "", is_retryable, details.get("retry_after"))
    return StepFailed(step, row.attempt, failure)


def _checkpoint_event(row: StepCheckpoint) -> Event | None:
    step = _step(row)
    match row.kind:
        case Checkpoint.ITERATING:
            return StepIterating(step, row.attempt, json.loads(row.content or "{}")["total"])
        case Checkpoint.WAITING:
            return StepSuspended(step, row.attempt)
        case Checkpoint.RELEASED_BEFORE:
            return StepReleased(step, is_after=False)
        case Checkpoint.RELEASED_AFTER:
            return StepReleased(step, is_after=True)
        case _:
            return None
