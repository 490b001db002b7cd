"""An execution as somebody wants to see it: values instead of stored texts, large ones fetched from where they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipelit.engine import blobs
from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.graph import Json
from pipelit.errors import NotFound
from pipelit.extensions import db
from pipelit.models import ExecutionLog, UserProfile, WorkflowExecution
from pipelit.services import executions


@dataclass(frozen=True, slots=True)
class LogView:
    """A log with its values."""

    log: ExecutionLog
    input: Json
    output: Json
    metadata: Json


@dataclass(frozen=True, slots=True)
class Time:
    """Where the time of an execution went: milliseconds of all its steps by kind, beside those on the clock."""

    queued_ms: float
    resolve_ms: float
    run_ms: float
    waiting_ms: float
    commit_ms: float
    wall_ms: float | None


@dataclass(frozen=True, slots=True)
class Detail:
    """An execution with everything that happened in it."""

    execution: WorkflowExecution
    final_output: Json
    logs: Sequence[LogView]
    children: Sequence[WorkflowExecution]
    time: Time


def get(execution_id: str, *, by: UserProfile | None) -> Detail:
    """An execution; in its logs a value too large for a list stands as a reference."""
    row = executions.detail(execution_id, by=by)
    logs = [LogView(log, _value(log.input), _value(log.output), _value(log.details)) for log in row.logs]
    return Detail(row, final_output(row), logs, executions.children(execution_id), time_of(row))


def time_of(row: WorkflowExecution) -> Time:
    """The sums of what its logs tell, and how long it took; the latter only once it is over."""
    sums = db.session.execute(ExecutionLog.times_of(row.execution_id)).one()
    queued, resolve, run, waiting, commit = (round(ms or 0.0, 3) for ms in sums)
    return Time(queued, resolve, run, waiting, commit, row.wall_ms)


def final_output(row: WorkflowExecution) -> Json:
    """What came out of an execution, whole; a reference if it is larger than any output may be."""
    return blobs.read_or_refer(dump_json(row.final_output), row.execution_id)


def log(execution_id: str, log_id: int, *, by: UserProfile | None) -> LogView:
    """One log with its values whole, however large they are."""
    executions.get(execution_id, by=by)
    row = db.session.get(ExecutionLog, log_id)
    if row is None or row.execution_id != execution_id:
        raise NotFound(f"The execution has no log {log_id}.")
    given, output = (
        None if text is None else blobs.read_or_refer(text, execution_id) for text in (row.input, row.output)
    )
    return LogView(row, given, output, _value(row.details))


def _value(text: str | None) -> Json:
    value: Json = None if text is None else json.loads(text)
    return value
