"""What is written down of steps that come to no end of their own: a row each, like that of every other attempt.

An execution may be over while steps of it run, wait or stand in a queue, and an iteration that is given up may leave
some behind. What their workers say later changes nothing, so the transition that leaves them says how far they came.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from pipelit.engine.core.events import Failure
from pipelit.engine.core.state import ExecutionStatus, State, StepId, StepState, StepStatus
from pipelit.engine.delays import UNCLAIMED_MS
from pipelit.engine.holds import Holds
from pipelit.engine.keys import DEADLINES, TaskId, claim_field, due_field, report_field
from pipelit.engine.narrator import Narrator, Report
from pipelit.engine.timing import Due, report_of_lost
from pipelit.errors import ExecutionTimedOut, StepCancelled

CANCELLED, TIMED_OUT = "cancelled", "timed_out"
"""Statuses of such rows."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the working state has of a step that is left: its claim, its report, when it was due, its deadline."""

    claim: str | None
    report: str | None
    due: Due | None
    deadline: float | None


def write_down(tell: Narrator, holds: Holds, before: State, after: State, about: StepId | None) -> None:
    """Write a row for each step that the transition from `before` to `after` leaves behind.

    The step that its event was `about` has come to its end, and so have those whose rows are written by now.
    """
    told = {about, *tell.waiting}
    left = {step: known for step, known in before.steps.items() if step not in told and _is_left(step, known, after)}
    # What ran inside a loop comes before the loop, as with steps that end by themselves.
    order = sorted(left, key=lambda step: len(step.scope), reverse=True)
    for step, kept in zip(order, _kept(tell, holds, [(step, left[step].attempt) for step in order]), strict=True):
        _write_row(tell, holds, step, left[step], kept, after.status)


def _is_left(step: StepId, known: StepState, after: State) -> bool:
    following = after.steps.get(step)
    return not known.is_settled and (following is None or (after.status.is_final and not following.is_settled))


def _kept(tell: Narrator, holds: Holds, attempts: Sequence[tuple[StepId, int]]) -> Iterator[Kept]:
    """Read all of it at once."""
    execution_id, keys = tell.write.execution_id, tell.write.keys
    pipeline = holds.store.redis.pipeline(transaction=False)
    for step, attempt in attempts:
        pipeline.hget(keys.meta, claim_field(step))
        pipeline.hmget(keys.data, [report_field(step), due_field(step)])
        pipeline.zscore(DEADLINES, str(TaskId(execution_id, step, attempt)))
    found = pipeline.execute()
    for number, (_, attempt) in enumerate(attempts):
        claim, (report, due), deadline = found[3 * number : 3 * number + 3]
        is_current = claim is not None and claim.startswith(f"{attempt} ")
        yield Kept(claim if is_current else None, report, Due.of(attempt, due), deadline)


def _write_row(
    tell: Narrator, holds: Holds, step: StepId, known: StepState, kept: Kept, status: ExecutionStatus
) -> None:
    match known.status:
        case StepStatus.READY:
            report, how = _of_ready(tell, step, known, kept)
        case StepStatus.WAITING:
            report, how = Report.read(kept.report), "while the step waited"
        case StepStatus.ITERATING:
            report, how = Report.read(kept.report), "while its iterations ran"
        case StepStatus.HELD_BEFORE:
            report, how = Report(), "before a person let the step run"
        case StepStatus.HELD_AFTER:
            # Its row says that it succeeded; how long it was held behind that is known only now.
            tell.waited(step, known.attempt, holds.waited(step))
            return
        case StepStatus.SUCCEEDED | StepStatus.FAILED | StepStatus.SKIPPED:
            raise AssertionError("a settled step has its row")
        case _:
            assert_never(known.status)
    is_held = known.status is StepStatus.HELD_BEFORE
    waited = holds.waited(step) if is_held else holds.before(step, known.attempt)
    failure = _failure(status, how)
    row = TIMED_OUT if status is ExecutionStatus.TIMED_OUT else CANCELLED
    duration = tell.log(step, known.attempt, row, report, failure=failure, waited_ms=waited)
    tell.step(step, row, error=failure.message, error_code=failure.code, duration_ms=duration, attempt=known.attempt)


def _of_ready(tell: Narrator, step: StepId, known: StepState, kept: Kept) -> tuple[Report, str]:
    """Of a step that was sent: it runs, or stands in a queue, or the time of its next attempt has not come."""
    if kept.claim is not None:
        return report_of_lost(kept.claim, tell.at), "while the step ran"
    if kept.due is not None and tell.at < kept.due.due_ms:
        # The attempt before it was to wait for all of the delay; it has waited until now.
        since = tell.at if kept.due.failed_ms is None else kept.due.failed_ms
        tell.waited(step, known.attempt - 1, kept.due.waited_ms + max(0.0, round(tell.at - since, 3)))
        return Report(queued_ms=0.0), "before its next attempt was due"
    due = kept.due.due_ms if kept.due else None if kept.deadline is None else kept.deadline - UNCLAIMED_MS
    queued = None if due is None else max(0.0, round(tell.at - due, 3))
    return Report(queued_ms=queued), "before a worker took the step"


def _failure(status: ExecutionStatus, how: str) -> Failure:
    match status:
        case ExecutionStatus.TIMED_OUT:
            return Failure(ExecutionTimedOut.code, f"The execution took longer than it may {how}.")
        case ExecutionStatus.CANCELLED:
            return Failure(StepCancelled.code, f"The execution was cancelled {how}.")
        case ExecutionStatus.FAILED:
            return Failure(StepCancelled.code, f"The execution failed at another step {how}.")
        case _:
            return Failure(StepCancelled.code, f"The iteration was given up {how}.")
