"""What a suspended step waits for, as the working state keeps it, and what follows when its time has come."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from pipelit.engine import values
from pipelit.engine.core.events import Event, Failure, StepFailed, StepResumed
from pipelit.engine.core.graph import Json
from pipelit.engine.keys import TaskId
from pipelit.engine.narrator import Report
from pipelit.errors import ApprovalTimeout
from pipelit.nodes.outcome import Approval, Child, External, Timer

APPROVED, REJECTED = "approved", "rejected"
"""The two routes of a confirmation."""


class Kind(StrEnum):
    """Whom a suspended step waits for; one that waits for a time has none."""

    EXTERNAL = "external"
    APPROVAL = "approval"
    CHILD = "child"


def described(until: Timer | External | Approval | Child) -> dict[str, Json] | None:
    """What is waited for as JSON; None for a time."""
    match until:
        case Timer():
            return None
        case External():
            return {"kind": Kind.EXTERNAL}
        case Approval(prompt, form, approvers, _, on_timeout):
            told: dict[str, Json] = {"prompt": prompt, "form": [*form], "approvers": [*approvers]}
            return {"kind": Kind.APPROVAL, **told, "on_timeout": on_timeout}
        case Child(workflow, payload, text, is_awaited):
            request: dict[str, Json] = {"workflow": workflow, "payload": dict(payload), "text": text}
            return {"kind": Kind.CHILD, **request, "is_awaited": is_awaited}
        case _:
            assert_never(until)


def wake_ms(until: Timer | External | Approval | Child) -> int | None:
    """When the step goes on by itself, in ms since the epoch."""
    at: datetime | None = None
    match until:
        case Timer(at):
            pass
        case External(at):
            pass
        case Approval(deadline=at):
            pass
        case Child():
            return None
        case _:
            assert_never(until)
    return None if at is None else round(at.timestamp() * 1000)


def kind_of(until: Mapping[str, Json] | None) -> Kind | None:
    """The kind of what is waited for."""
    return None if until is None else Kind(str(until["kind"]))


def at_deadline(task: TaskId, report: Report) -> tuple[Event, Report]:
    """What happens to a step whose time has come: it goes on, unless its question decides otherwise."""
    if report.until is None or kind_of(report.until) is not Kind.APPROVAL:
        return StepResumed(task.step, task.attempt), report
    match report.until["on_timeout"]:
        case "approve":
            return answered(task, report, is_approved=True)
        case "reject":
            return answered(task, report, is_approved=False)
        case _:
            failure = Failure(ApprovalTimeout.code, "Nobody answered the question in time.")
            return StepFailed(task.step, task.attempt, failure), report


def answered(
    task: TaskId, report: Report, *, is_approved: bool, data: Mapping[str, Json] | None = None, by: str | None = None
) -> tuple[Event, Report]:
    """What a decision makes of a step that asked for one; nobody's, if its time has come."""
    route = APPROVED if is_approved else REJECTED
    outputs: dict[str, Json] = {"approved": is_approved, "data": dict(data or {}), "decided_by": by}
    return StepResumed(task.step, task.attempt, route), replace(report, outputs=values.encode_outputs(outputs))
