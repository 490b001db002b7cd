"""Makes the working state of an execution from what SQL remembers: after a loss, and to begin a retry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from redis import Redis

from pipelit import clock
from pipelit.engine import census, recollection
from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core.commands import CollectResult, RunStep
from pipelit.engine.core.events import (
    Event,
    Failure,
    StepIterating,
    StepReleased,
    StepResumed,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import Plan
from pipelit.engine.core.replay import Replayed, given_up, replay
from pipelit.engine.core.state import ExecutionStatus, State, StepId, StepStatus
from pipelit.engine.entrance import Guest
from pipelit.engine.entries import Checkpoint
from pipelit.engine.keys import TaskId, claim_field, item_field, report_field, running_key, total_field
from pipelit.engine.narrator import Narrator, Report
from pipelit.engine.pages import PAGE, Pages
from pipelit.engine.recollection import Attempt, Recollection
from pipelit.engine.store import Meta, Transaction
from pipelit.engine.transition import Transition
from pipelit.engine.worker import is_safe_to_repeat
from pipelit.extensions import settings
from pipelit.models.execution import WorkflowExecution

log = structlog.get_logger(__name__)

EVENTS_PER_MS = 100
"""More than any server numbers: after a loss numbering goes on above all that can have been told before."""

SHOWN = {
    StepStatus.SUCCEEDED: "success",
    StepStatus.FAILED: "failed",
    StepStatus.SKIPPED: "skipped",
    StepStatus.ITERATING: "running",
    StepStatus.WAITING: "waiting",
    StepStatus.HELD_BEFORE: "waiting",
    StepStatus.HELD_AFTER: "waiting",
}


@dataclass(frozen=True, slots=True)
class Rebuilder:
    """Builds executions; harmless when done twice, or by two processes at once. Needs an application context."""

    coordinator: Coordinator
    redis: Redis
    lease_seconds: float

    def begin(self, row: WorkflowExecution) -> bool:
        """Begin an execution whose rows were written with it. False if it has begun already, or even ended."""
        return self._build(row, None)

    def restore(self, row: WorkflowExecution, may_restore: Callable[[], bool] = lambda: True) -> bool:
        """Bring an execution to where SQL knows it to be. False if that is where it is.

        `may_restore` is asked once the working state was looked at, and has to know of every loss until then.
        A step that ran when the data were lost goes on, if its worker is alive. One of which nothing is known runs
        again, under the same idempotency key, or is given up if it is not safe to repeat.
        """
        return self._build(row, self._announced, may_restore)

    def _build(self, row: WorkflowExecution, announced: Any, may_restore: Callable[[], bool] = lambda: True) -> bool:
        store = self.coordinator.store
        loaded = store.load(row.execution_id)
        if loaded is None and not store.is_lost([row.execution_id])[0]:
            return False
        if not may_restore():
            return False
        version, before = ("", State()) if loaded is None else (loaded[0].version, loaded[0].state)
        plan = self.coordinator.plans.get(row.workflow_id, row.plan_hash)
        known = recollection.load(row.execution_id)
        replayed = replay(plan, before, known.events)
        if not replayed.heard:
            return False
        running: Mapping[Attempt, str] = {}
        at = clock.now_ms()
        if announced is not None:
            running = announced(row.execution_id, _to_run(replayed))
            replayed = given_up(plan, replayed, _unsafe(plan, replayed, known, running, at))
        meta = loaded[1] if loaded else self._meta(row, at)
        building = Rebuilding(self.coordinator.tools, row.execution_id, plan, meta, at)
        building.remember(known, running, round(self.lease_seconds * 1000))
        if loaded is None:
            trigger = (StepId(plan.trigger), 0)
            outputs = known.outputs([trigger]).get(trigger)
            outputs = outputs or self.coordinator.kept_outputs(row.execution_id, row.trigger_output)
            building.begin_again(outputs, row.max_execution_seconds, is_lost=announced is not None)
        transaction = building.rebuild(before, replayed)
        place = census.place_of(row)
        if place is not None and loaded is None:
            if not self.coordinator.entrance.admit(Guest(transaction, place, plan, meta.slug)):
                return False
        elif store.commit(transaction, version) is None:
            return False
        building.settle()
        return True

    def _meta(self, row: WorkflowExecution, at: int) -> Meta:
        started = at if row.started_at is None else round(row.started_at.timestamp() * 1000, 3)
        placement = row.placement or settings().placement
        group = row.concurrency_group or ""
        return Meta(row.plan_hash, row.workflow_id, row.workflow.slug, started, placement, row.durability, group)

    def _announced(self, execution_id: str, attempts: Sequence[Attempt]) -> dict[Attempt, str]:
        """The claims of those of the attempts that some worker says it is running."""
        if not attempts:
            return {}
        names = [running_key(TaskId(execution_id, step, attempt)) for step, attempt in attempts]
        found: Any = self.redis.mget(names)
        return {attempt: claim for attempt, claim in zip(attempts, found, strict=True) if claim is not None}


class Rebuilding(Transition):
    """Many transitions made into one: what was recorded is not told again, what was commanded long ago not sent."""

    def remember(self, known: Recollection, running: Mapping[Attempt, str], lease_ms: int) -> None:
        """What is known of the execution; to be called before anything else."""
        self.known = known
        self.running = running
        self.lease_ms = lease_ms
        self.begun: dict[StepId, tuple[int, Report]] = {}
        """The attempts of the loops that begin in here, and what they reported; some of them end in here as well."""
        self.tell: Retelling = Retelling(self.write, self.plan, self.at)
        self.tell.known = known

    def begin_again(self, trigger_outputs: str, max_seconds: int | None, *, is_lost: bool) -> None:
        """Write what the first transition of the execution wrote, numbers of events above those that were given."""
        self.write.call("DEL", self.write.keys.steps, self.write.keys.data)
        if is_lost:
            numbered = EVENTS_PER_MS * max(0, round(self.at - self.meta.started_ms))
            self.write.set_fields(self.write.keys.meta, {"seq": numbered})
        self.begin(trigger_outputs, None, None)
        if max_seconds is not None:
            self.write.watch(self.write.execution_id, self.meta.started_ms + max_seconds * 1000)

    def rebuild(self, before: State, replayed: Replayed) -> Transaction:
        """The transaction that makes of `before` what was replayed."""
        self.before, self.after = before, replayed.state
        self._recall(replayed)
        self._release()
        for heard in replayed.heard:
            self._tell_event(heard.event, self._report_of(heard.event))
            for command in heard.commands:
                self._carry_out(command)
        for loop in self.iterations.results.keys() - self.after.steps.keys() - self.iterations.over:
            self.iterations.give_up(loop)
        self._write_outputs()
        self._write_steps()
        self._tell_statuses()
        self._call_journal_writer()
        return self.write

    def _recall(self, replayed: Replayed) -> None:
        """Read the outputs that somebody may still read, and those that a loop collects."""
        wanted = {(step, known.attempt) for step, known in self.after.steps.items()}
        ended = {step: known.attempt for step, known in self.before.steps.items()}
        for heard in replayed.heard:
            if isinstance(heard.event, StepSucceeded | StepResumed):
                ended[heard.event.step] = heard.event.attempt
        for heard in replayed.heard:
            for command in heard.commands:
                if isinstance(command, CollectResult) and command.source is not None:
                    wanted.add((command.source, ended.get(command.source, 0)))
        found = self.known.outputs(wanted)
        self.recalled = {step: text for (step, _), text in found.items()}

    def _report_of(self, event: Event) -> Report:
        match event:
            case StepReleased(step) if step not in self.after.steps or self.after.steps[step].is_settled:
                return Report()
            case StepIterating() | StepSuspended() | StepReleased():
                return self.known.report(event)
            case StepSucceeded(step) | StepResumed(step):
                return Report(outputs=self.recalled.get(step))
            case _:
                return Report()

    def _tell_event(self, event: Event, report: Report) -> None:
        if isinstance(event, StepIterating):
            self.begun[event.step] = event.attempt, report
        super()._tell_event(event, report)

    def _finish_loop(self, loop: StepId, total: int) -> None:
        if loop not in self.begun:
            super()._finish_loop(loop, total)
            return
        # It may have gone with the iteration around it, and then stands in neither of the states.
        attempt, report = self.begun[loop]
        outputs, _ = self.iterations.finish(loop, attempt, total)
        self._succeeded(loop, attempt, None, replace(report, items=(), outputs=outputs))

    def _iterating(self, step: StepId, total: int, report: Report) -> None:
        known = self.after.steps.get(step)
        if known is None or known.progress is None:
            return
        progress = known.progress
        # Those being worked on, and the rest of the page at which the loop stands: the next comes when it is there.
        rest = range(progress.following, min(total, -(-progress.following // PAGE) * PAGE))
        pages = Pages.of_items(self.write.execution_id, step, known.attempt)
        items = {0: list(report.items)}
        fields: dict[str, str | int] = {total_field(step): total, report_field(step): report.kept()}
        for index in (*progress.open, *rest):
            number = index // PAGE
            if number not in items:
                items[number] = pages.load(number)
            fields[item_field(step, index)] = items[number][index % PAGE]
        self.write.set_fields(self.write.keys.data, fields)

    def _suspended(self, step: StepId, attempt: int, report: Report) -> None:
        known = self.after.steps.get(step)
        if known is not None and known.status is StepStatus.WAITING and known.attempt == attempt:
            super()._suspended(step, attempt, report)

    def _run(self, command: RunStep) -> None:
        task = TaskId(self.write.execution_id, command.step, command.attempt)
        claim = self.running.get((command.step, command.attempt))
        if claim is not None:
            self.write.set_fields(self.write.keys.meta, {claim_field(command.step): claim})
            self.write.watch(str(task), self.at + self.lease_ms)
            return
        super()._run(replace(command, delay=_left(command, self.known, self.at), jitter=0.0))

    def _put_outputs(self, step: StepId, outputs: str) -> None:
        self.outputs[step] = outputs

    def _break_off(self) -> None:
        """Nothing: how far a step had come is not known after a loss."""

    def _write_outputs(self) -> None:
        for step in [step for step in self.outputs if step not in self.after.steps]:
            del self.outputs[step]
        for step, outputs in self.outputs.items():
            super()._put_outputs(step, outputs)

    def _tell_statuses(self) -> None:
        """Tell where each step of the frontier is: nobody may have heard of it under this execution, or any more."""
        for step, known in self.after.steps.items():
            if (status := SHOWN.get(known.status)) is not None:
                Narrator.step(self.tell, step, status, output=self.outputs.get(step))


class Retelling(Narrator):
    """Says only what was not recorded."""

    known: Recollection

    def step(self, step: StepId, status: str, *, output: str | None = None, **more: Any) -> None:
        """Nothing: where a step is in the end is told in the end."""

    def log(
        self, step: StepId, attempt: int, status: str, report: Report, *, failure: Failure | None = None, **more: Any
    ) -> int | None:
        if (step, attempt) in self.known.rows:
            return None
        return super().log(step, attempt, status, report, failure=failure, **more)

    def checkpoint(self, step: StepId, attempt: int, kind: Checkpoint, content: str | None = None) -> None:
        if ((step, attempt), str(kind)) not in self.known.checkpoints:
            super().checkpoint(step, attempt, kind, content)


def _to_run(replayed: Replayed) -> list[Attempt]:
    commands = (command for heard in replayed.heard for command in heard.commands)
    return [(command.step, command.attempt) for command in commands if isinstance(command, RunStep)]


def _unsafe(
    plan: Plan, replayed: Replayed, known: Recollection, running: Mapping[Attempt, str], at: int
) -> list[Attempt]:
    """Attempts that may have run before the loss, in no worker any more, and that must not run twice."""
    if replayed.state.status is not ExecutionStatus.RUNNING:
        return []
    commands = [command for heard in replayed.heard for command in heard.commands if isinstance(command, RunStep)]
    return [
        (command.step, command.attempt)
        for command in commands
        if (command.step, command.attempt) not in running
        and not _left(command, known, at)
        and not is_safe_to_repeat(plan.nodes[command.step.node])
    ]


def _left(command: RunStep, known: Recollection, at: float) -> float:
    """What is left of a retry's delay, in seconds, counted from when the attempt before it failed."""
    failed = known.rows.get((command.step, command.attempt - 1))
    return max(0.0, command.delay - (at - failed.at_ms) / 1000) if failed else 0.0
