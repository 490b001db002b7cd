"""Journal entries as rows: a handful of statements for a whole batch, each of which may safely be repeated."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Boolean, ColumnElement, Table, Update, and_, bindparam, case, delete, literal, or_, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from pipelit.engine import blobs, broken_off, orphans
from pipelit.engine.core.graph import Json
from pipelit.engine.core.state import ExecutionStatus
from pipelit.engine.entries import Entry, Kind
from pipelit.engine.rows import Columns, insert_once
from pipelit.models.execution import (
    LIVE,
    TIMES,
    ExecutionEvents,
    ExecutionLog,
    PendingTask,
    PendingTaskApprover,
    StepCheckpoint,
    WorkflowExecution,
)

BROKEN_OFF = (broken_off.CANCELLED, broken_off.TIMED_OUT)

SPENT = ("resolve_ms", "run_ms", "commit_ms")
"""The kinds of time that pass between an attempt's claim and its commit."""

TEXT_LIMIT = 4_000
PROMPT_LIMIT = 20_000
NAME_LIMIT = 150
"""No user has a longer name."""

# Statements on the tables themselves: the unit of work would only cost time here.
EXECUTIONS, LOGS, CHECKPOINTS, EVENTS, TASKS, APPROVERS = (
    cast(Table, model.__table__)
    for model in (WorkflowExecution, ExecutionLog, StepCheckpoint, ExecutionEvents, PendingTask, PendingTaskApprover)
)

HAVE_FAILED = (ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT)
"""Somebody may be waiting to hear of such an end."""

# Not IN: its parameters are made for each execution of a statement, which many rows at once do not have.
IS_LIVE = or_(*(EXECUTIONS.c.status == status for status in LIVE))

END = (
    EXECUTIONS.update()
    .where(EXECUTIONS.c.execution_id == bindparam("ended"), IS_LIVE)
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "status",
                "started_at",
                "completed_at",
                "final_output",
                "error_message",
                "error_code",
                "error_node_id",
            )
        }
        | {"needs_follow_up": or_(EXECUTIONS.c.needs_follow_up, bindparam("has_failed", type_=Boolean()))}
    )
)
START = (
    EXECUTIONS.update()
    .where(EXECUTIONS.c.execution_id == bindparam("started"), EXECUTIONS.c.status == "pending")
    .values(status="running", started_at=bindparam("new_started_at"))
)

FORGET_TASKS = TASKS.delete().where(TASKS.c.execution_id.in_(bindparam("over", expanding=True)))


def write(session: Session, batch: Sequence[Entry], kept_events: Mapping[str, bytes]) -> None:
    """Write entries of executions that are all there; `kept_events` are those of the executions that end."""
    by_kind: dict[Kind, list[Entry]] = {kind: [] for kind in Kind}
    for entry in batch:
        by_kind[entry.kind].append(entry)
    ended = by_kind[Kind.ENDED]
    over = {entry.execution_id for entry in ended}
    started = [entry for entry in by_kind[Kind.STARTED] if entry.execution_id not in over]
    # A row that a worker wrote beforehand does not know yet how long its commit took, and what was waited for.
    logs = [_log_row(entry) for entry in by_kind[Kind.LOG]]
    insert_once(session.connection(), LOGS, logs, completing=_completed)
    insert_once(session.connection(), CHECKPOINTS, [_checkpoint_row(entry) for entry in by_kind[Kind.CHECKPOINT]])
    for entry in by_kind[Kind.WAITED]:
        session.execute(_waited(entry))
    if started:
        rows = [{"started": entry.execution_id, "new_started_at": _time(entry.facts["at"])} for entry in started]
        session.connection().execute(START, rows)
    for entry in batch:
        if entry.kind in (Kind.HELD, Kind.RELEASED):
            _ask_or_answer(session, entry)
        elif entry.kind is Kind.EDITED:
            _edit(session, entry)
    if ended:
        session.connection().execute(END, [_end_row(entry) for entry in ended])
        events = [{"execution_id": execution_id, "events": kept_events[execution_id]} for execution_id in over]
        insert_once(session.connection(), EVENTS, events)
        orphans.remove(session, over)
        session.connection().execute(FORGET_TASKS, {"over": list(over)})


def existing(session: Session, ids: set[str]) -> set[str]:
    """Those of these executions that have a row."""
    return set(session.scalars(select(WorkflowExecution.execution_id).where(WorkflowExecution.execution_id.in_(ids))))


def to_follow_up(session: Session, ids: Collection[str]) -> list[str]:
    """Those of these ended executions about which something is still to be done."""
    chosen = (WorkflowExecution.execution_id.in_(ids), WorkflowExecution.needs_follow_up)
    return list(session.scalars(select(WorkflowExecution.execution_id).where(*chosen)))


def _completed(there: Columns, given: Columns) -> tuple[Mapping[str, ColumnElement[Any]], ColumnElement[bool]]:
    """What a second writing of an attempt's row adds to the first: times that were not known by then.

    Where the two tell different ends, what the worker had written stands, and its process died or the execution was
    stopped before that was committed. The time until then is that of its commit. What was broken off stays as it is.
    """
    values = {name: _larger(there[name], given[name]) for name in (*TIMES, "duration_ms")}
    until = sum((sql.coalesce(given[name], 0.0) for name in SPENT), literal(0.0))
    returned = sql.coalesce(there.resolve_ms, 0.0) + sql.coalesce(there.run_ms, 0.0)
    is_same = there.status == given.status
    for name in ("queued_ms", "resolve_ms", "run_ms"):
        values[name] = case((is_same, values[name]), else_=there[name])
    values["commit_ms"] = case((is_same, values["commit_ms"]), else_=_larger(there.commit_ms, until - returned))
    return values, and_(*(there.status != status for status in BROKEN_OFF))


def _larger(there: ColumnElement[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((there.is_(None), given), (given > there, given), else_=there)


def _log_row(entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    return {
        "execution_id": entry.execution_id,
        "node_id": facts["node_id"],
        "component_type": facts["component_type"],
        "scope": facts["scope"],
        "attempt": facts["attempt"],
        "status": facts["status"],
        "route": facts.get("route"),
        "input": entry.input,
        "output": entry.output,
        "error": text(facts.get("error")),
        "error_code": facts.get("error_code"),
        "metadata": json.dumps(facts["details"]) if facts.get("details") else None,
        **{name: facts.get(name) for name in (*TIMES, "duration_ms")},
        "timestamp": _time(facts["at"]),
    }


def _checkpoint_row(entry: Entry) -> dict[str, Any]:
    return {"execution_id": entry.execution_id, "content": entry.output, **entry.facts}


def _waited(entry: Entry) -> Update:
    """A person has let a step go on whose row was written before."""
    here = (LOGS.c[name] == entry.facts[name] for name in ("node_id", "scope", "attempt"))
    mine = LOGS.update().where(LOGS.c.execution_id == entry.execution_id, *here)
    return mine.values(waiting_ms=entry.facts["waiting_ms"])


def _end_row(entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    return {
        "ended": entry.execution_id,
        "new_status": facts["status"],
        "new_started_at": _time(facts["started_at"]) if facts["started_at"] else None,
        "new_completed_at": _time(facts["at"]),
        "new_final_output": blobs.read_or_refer(entry.output, entry.execution_id) if entry.output else None,
        "new_error_message": text(facts.get("error")),
        "new_error_code": facts.get("error_code"),
        "new_error_node_id": facts.get("node_id"),
        "has_failed": facts["status"] in HAVE_FAILED,
    }


def _ask_or_answer(session: Session, entry: Entry) -> None:
    """Put a question to a person, or take it back; an execution is interrupted for as long as there is one."""
    mine = PendingTask.execution_id == entry.execution_id
    if entry.kind is Kind.HELD:
        # Whoever ends it from outside takes its questions back: they wait for us, or we see that it has ended.
        live = select(EXECUTIONS.c.execution_id).where(EXECUTIONS.c.execution_id == entry.execution_id, IS_LIVE)
        if session.scalar(live.with_for_update()) is None:
            return
        insert_once(session.connection(), TASKS, [_task_row(entry)])
        named = {"task_id": entry.facts["task_id"]}
        approvers = [text(name) or "" for name in cast(list[Json], entry.facts.get("approvers") or [])]
        rows = [{**named, "username": name} for name in dict.fromkeys(approvers) if 0 < len(name) <= NAME_LIMIT]
        insert_once(session.connection(), APPROVERS, rows)
        _move(session, entry, "running", "interrupted")
        return
    session.execute(delete(PendingTask).where(mine, PendingTask.step == entry.facts["step"]))
    if session.scalar(select(PendingTask.task_id).where(mine).limit(1)) is None:
        _move(session, entry, "interrupted", "running")


def _task_row(entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    return {
        "task_id": facts["task_id"],
        "execution_id": entry.execution_id,
        "step": facts["step"],
        "node_id": facts["node_id"],
        "kind": facts["kind"],
        "prompt": text(facts.get("prompt"), PROMPT_LIMIT),
        "form": facts.get("form"),
        "created_at": _time(facts["at"]),
        "expires_at": _time(facts["expires_at"]) if facts.get("expires_at") else None,
    }


def _move(session: Session, entry: Entry, before: str, after: str) -> None:
    """Move an execution from one status to another, if it still stands where it is moved from."""
    here = (EXECUTIONS.c.execution_id == entry.execution_id, EXECUTIONS.c.status == before)
    session.execute(EXECUTIONS.update().where(*here).values(status=after))


def _time(milliseconds: Json) -> datetime:
    assert isinstance(milliseconds, int | float)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _edit(session: Session, entry: Entry) -> None:
    """Put the outputs that a person gave in the place of the step's own."""
    at = [LOGS.c[name] == entry.facts[name] for name in ("node_id", "scope", "attempt")]
    session.execute(LOGS.update().where(LOGS.c.execution_id == entry.execution_id, *at).values(output=entry.output))


def text(value: Json, limit: int = TEXT_LIMIT) -> str | None:
    """A message as the databases take it: no NUL characters, no lone surrogates, not endless."""
    if value is None:
        return None
    return str(value).replace("\0", "").encode("utf-8", "replace").decode()[:limit]
