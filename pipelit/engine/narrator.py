"""Tells what a transition did: events to those who watch, entries to the journal."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipelit.engine import blobs, broadcast, values
from pipelit.engine.core import codec
from pipelit.engine.core.events import Failure
from pipelit.engine.core.graph import Json, Plan
from pipelit.engine.core.state import ExecutionStatus, StepId, scope_text
from pipelit.engine.entries import Checkpoint, Entry, Kind
from pipelit.engine.pages import Pages
from pipelit.engine.store import Transaction

TASKS = uuid.UUID("6f1d0f6a-6a53-5b0e-9a4f-2f3f0c1f7b11")
"""The namespace of the ids of questions."""

END_EVENTS = {
    ExecutionStatus.COMPLETED: "execution_completed",
    ExecutionStatus.FAILED: "execution_failed",
    ExecutionStatus.TIMED_OUT: "execution_failed",
    ExecutionStatus.CANCELLED: "execution_cancelled",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What an attempt leaves beside its event; `input` and `outputs` are JSON texts.

    `items` are the first page of what a loop has to do, each a JSON text. `until` says what a suspended step waits for,
    as `waiting.described` has it; None is a time. `started_ms`, `returned_ms` (when its node had returned) and
    `waits_from_ms` are times since the epoch, the other times are how long something took.
    """

    input: str | None = None
    outputs: str | None = None
    items: tuple[str, ...] = ()
    wake_ms: int | None = None
    until: Mapping[str, Json] | None = None
    queued_ms: float | None = None
    started_ms: float | None = None
    resolve_ms: float | None = None
    run_ms: float | None = None
    returned_ms: float | None = None
    commit_ms: float | None = None
    waits_from_ms: float | None = None

    def parked(self, at: float, *, is_waiting: bool) -> "Report":
        """The report of a step that is put aside at this time, to wait or to have its iterations run."""
        return replace(self, commit_ms=_since(self.returned_ms, at), waits_from_ms=at if is_waiting else None)

    def kept(self) -> str:
        """What is still of interest when a step that was put aside goes on."""
        spent = [self.queued_ms, self.started_ms, self.resolve_ms, self.run_ms, self.commit_ms, self.waits_from_ms]
        return json.dumps([self.input, self.outputs, self.until, *spent])

    def suspended(self) -> str:
        """The same, with what the step waits for."""
        return json.dumps({"report": self.kept(), "wake_ms": self.wake_ms})

    @classmethod
    def read(cls, text: str | None) -> "Report":
        """Read what `kept` wrote."""
        if text is None:
            return cls()
        given, outputs, until, queued_ms, started_ms, resolve_ms, run_ms, commit_ms, waits_from_ms = json.loads(text)
        return cls(
            given,
            outputs,
            until=until,
            queued_ms=queued_ms,
            started_ms=started_ms,
            resolve_ms=resolve_ms,
            run_ms=run_ms,
            commit_ms=commit_ms,
            waits_from_ms=waits_from_ms,
        )


class Narrator:
    """Adds to a transaction what the world is to hear of it. `at` is the time in ms since the epoch."""

    def __init__(self, write: Transaction, plan: Plan, at: float) -> None:
        self.write = write
        self.plan = plan
        self.at = at
        self.waiting: dict[StepId, float] = {}
        """How long the steps have waited whose rows are written here."""

    def step(self, step: StepId, status: str, *, output: str | None = None, **more: Json) -> None:
        """A `node_status` event; `output` is JSON text, cut if it is long."""
        self.write.event(node_status(self.write.execution_id, step, status, self.at, output=output, **more))

    def log(
        self,
        step: StepId,
        attempt: int,
        status: str,
        report: Report,
        *,
        failure: Failure | None = None,
        waited_ms: float = 0.0,
        **more: Json,
    ) -> int | None:
        """The step's row in the execution log; returns the duration in ms.

        `waited_ms` is what the step waited besides its suspension: for a person before it ran, for its next attempt.
        """
        duration = None if report.started_ms is None else max(0, round(self.at - report.started_ms))
        waiting = self.waiting[step] = (_since(report.waits_from_ms, self.at) or 0.0) + waited_ms
        facts: dict[str, Json] = {
            "node_id": step.node,
            "component_type": self.plan.nodes[step.node].type,
            "scope": scope_text(step.scope),
            "attempt": attempt,
            "status": status,
            "queued_ms": report.queued_ms,
            "resolve_ms": report.resolve_ms,
            "run_ms": report.run_ms,
            "waiting_ms": round(waiting, 3) if waiting else None,
            "commit_ms": _since(report.returned_ms, self.at) if report.commit_ms is None else report.commit_ms,
            "duration_ms": duration,
            "at": self.at,
            **more,
        }
        if failure is not None:
            facts |= {"error": failure.message, "error_code": failure.code, "details": _details(failure)}
        self._record(Kind.LOG, facts, report.input, report.outputs)
        return duration

    def started(self, trigger: StepId, outputs: str) -> None:
        """The execution has begun; its trigger is its first settled step."""
        self._record(Kind.STARTED, {"at": self.at})
        content = {"execution_id": self.write.execution_id, "status": ExecutionStatus.RUNNING}
        self._event("execution_started", content)
        self.log(trigger, 0, "success", Report(outputs=outputs, started_ms=self.at))
        self.step(trigger, "success", output=outputs, duration_ms=0)

    def checkpoint(self, step: StepId, attempt: int, kind: Checkpoint, content: str | None = None) -> None:
        """Something a step did that no log tells, and that is to outlive the working state; `content` is JSON."""
        facts: dict[str, Json] = {
            "node_id": step.node,
            "scope": scope_text(step.scope),
            "attempt": attempt,
            "kind": kind,
        }
        self._record(Kind.CHECKPOINT, facts, output=content)

    def items(self, step: StepId, attempt: int, total: int, report: Report) -> None:
        """What a loop iterates over: the first page itself, and where the others are."""
        about: dict[str, Json] = {"total": total, "report": report.kept()}
        if total > len(report.items):
            about["pages"] = {blobs.MARK: Pages.of_items(self.write.execution_id, step, attempt).name}
        content = f'{codec.dump_json(about)[:-1]},"items":[{",".join(report.items)}]}}'
        self.checkpoint(step, attempt, Checkpoint.ITERATING, content)

    def suspension(self, step: StepId, attempt: int, report: Report) -> None:
        """What a step waits for."""
        self.checkpoint(step, attempt, Checkpoint.WAITING, report.suspended())

    def skipped(self, step: StepId) -> None:
        self.log(step, 0, "skipped", Report())
        self.step(step, "skipped")

    def held(
        self, step: StepId, kind: str, until_ms: int | None = None, question: Mapping[str, Json] | None = None
    ) -> None:
        """A person is asked whether the step may go on; `until_ms` is when it goes on without an answer.

        The id follows from the step, so that a question asked anew after a loss is still the same question.
        """
        task_id = str(uuid.uuid5(TASKS, f"{self.write.execution_id}/{step}/{kind}"))
        asked = {name: question[name] for name in ("prompt", "form", "approvers")} if question else {}
        facts: dict[str, Json] = {
            "task_id": task_id,
            "step": str(step),
            "node_id": step.node,
            "kind": kind,
            "at": self.at,
            "expires_at": until_ms,
            **asked,
        }
        self._record(Kind.HELD, facts)
        content: dict[str, Json] = {
            "execution_id": self.write.execution_id,
            "status": ExecutionStatus.INTERRUPTED,
            "node_id": step.node,
            "scope": scope_text(step.scope),
            "task_id": task_id,
            "kind": kind,
            "prompt": asked.get("prompt"),
            "expires_at": None if until_ms is None else _utc(until_ms),
        }
        self._event("execution_interrupted", content)

    def released(self, step: StepId) -> None:
        """Nobody is asked about the step any more."""
        self._record(Kind.RELEASED, {"step": str(step), "at": self.at})

    def edited(self, step: StepId, attempt: int, outputs: str) -> None:
        """A person put other outputs in the place of the step's own."""
        facts: dict[str, Json] = {"node_id": step.node, "scope": scope_text(step.scope), "attempt": attempt}
        self._record(Kind.EDITED, facts, output=outputs)

    def waited(self, step: StepId, attempt: int, waiting_ms: float) -> None:
        """A step whose row is written already has waited for so long in all."""
        facts: dict[str, Json] = {"node_id": step.node, "scope": scope_text(step.scope), "attempt": attempt}
        self._record(Kind.WAITED, {**facts, "waiting_ms": waiting_ms})

    def ended(
        self,
        status: ExecutionStatus,
        started_ms: float | None,
        output: str | None,
        failure: Failure | None,
        step: StepId | None,
    ) -> None:
        """The execution is over; `started_ms` is None if it never began."""
        facts: dict[str, Json] = {"status": status, "started_at": started_ms, "at": self.at}
        content: dict[str, Json] = {
            "execution_id": self.write.execution_id,
            "status": status,
            "duration_ms": 0 if started_ms is None else round(self.at - started_ms),
        }
        if failure is not None:
            told: dict[str, Json] = {"error": failure.message, "error_code": failure.code}
            told["node_id"] = step.node if step else None
            facts |= told
            content |= told
        self._record(Kind.ENDED, facts, output=output)
        self.write.last_event(event_text(END_EVENTS[status], content, self.at, output))

    def _record(
        self, kind: Kind, facts: Mapping[str, Json], given: str | None = None, output: str | None = None
    ) -> None:
        self.write.call(*Entry(self.write.execution_id, kind, facts, given, output).words())

    def _event(self, kind: str, content: Mapping[str, Json]) -> None:
        self.write.event(event_text(kind, content, self.at))


def _details(failure: Failure) -> dict[str, Json]:
    """What an error's message does not say, and the failure policy asks."""
    details: dict[str, Json] = {"retryable": failure.retryable}
    if failure.after is not None:
        details["retry_after"] = failure.after
    return details


def node_status(
    execution_id: str, step: StepId, status: str, at: float, *, output: str | None = None, **more: Json
) -> str:
    """The text of a `node_status` event."""
    content: dict[str, Json] = {
        "execution_id": execution_id,
        "node_id": step.node,
        "scope": scope_text(step.scope),
        "status": status,
        **more,
    }
    return event_text("node_status", content, at, output)


def _utc(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_text(kind: str, content: Mapping[str, Json], at: float, output: str | None = None) -> str:
    """An event's JSON; `output`, being JSON already, is put in as it is."""
    body = broadcast.event_body(kind, content, datetime.fromtimestamp(at / 1000, UTC))
    if output is None:
        return body
    head, mark, tail = body.rpartition('},"timestamp":')
    return f"{head},{values.shown(output)}{mark}{tail}"


def _since(moment: float | None, at: float) -> float | None:
    """Milliseconds from a moment to another, to the microsecond; None if the first is not known."""
    return None if moment is None else max(0.0, round(at - moment, 3))
