"""What one transition writes: the state's delta, outputs, loop results, messages, deadlines and the story of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from pipelit.engine import broken_off, groups, values, waiting
from pipelit.engine.compiler import ERROR_PORT
from pipelit.engine.core import codec
from pipelit.engine.core.commands import (
    CollectResult,
    Command,
    Finish,
    FinishLoop,
    GiveUpLoop,
    HoldStep,
    RunStep,
    SkipStep,
    UseDefault,
)
from pipelit.engine.core.events import (
    Event,
    Failure,
    StepFailed,
    StepIterating,
    StepLost,
    StepReleased,
    StepResumed,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import Json, Plan
from pipelit.engine.core.state import HELD, ExecutionStatus, State, StepId, StepStatus, takes
from pipelit.engine.delays import UNCLAIMED_MS, delay_of
from pipelit.engine.dispatch import Dispatcher
from pipelit.engine.entries import Checkpoint
from pipelit.engine.holds import Holds
from pipelit.engine.iterations import Iterations
from pipelit.engine.keys import (
    TaskId,
    claim_field,
    due_field,
    edit_field,
    held_field,
    output_field,
    postponed_field,
    report_field,
    writer_flag,
)
from pipelit.engine.lanes import lane_of
from pipelit.engine.narrator import Narrator, Report, node_status
from pipelit.engine.slices import Committed, Here, following
from pipelit.engine.store import Meta, Snapshot, Store, Transaction
from pipelit.engine.timing import Stopwatch

WITHIN_MS = 30_000
"""What is due within this time gets a countdown message; what is due later is found by the sweep of deadlines alone."""

ASK_AGAIN_MS = 60_000
"""How often somebody asks what became of the execution that a step waits for. Usually its end has told by itself."""

ASKING = HELD | {StepStatus.WAITING}
"""In these a person or the outside may have been asked to let the step go on."""

STEP_FIELDS = (output_field, report_field, postponed_field, edit_field, held_field, due_field)
"""What the working state keeps of a step besides its status."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What transitions are made with; an output of more than `blob_bytes` is kept outside the working state."""

    store: Store
    dispatcher: Dispatcher
    blob_bytes: int


class Transition:
    """One `advance`, made into a transaction. `at` is the time in ms since the epoch.

    `here` is the process that would run a sole following step in place, if there is one.
    """

    def __init__(
        self, tools: Tools, execution_id: str, plan: Plan, meta: Meta, at: float, here: Here | None = None
    ) -> None:
        self.tools = tools
        self.plan = plan
        self.meta = meta
        self.at = at
        self.here = here
        self.write = Transaction(execution_id, meta.slug)
        self.tell = Narrator(self.write, plan, at)
        self.holds = Holds(tools.store, self.write, plan, at)
        self.outputs: dict[StepId, str] = {}
        self.in_place: RunStep | None = None
        self.about: StepId | None = None
        self.iterations = Iterations(tools.store, self.write, tools.blob_bytes)
        self.delays: dict[StepId, float] = {}
        """In ms, of the steps that are tried again later."""
        self.edits: Mapping[StepId, str] = {}
        """Settings that a person gave before, of the steps that are held no more."""

    def begin(self, trigger_outputs: str, max_seconds: int | None, reply_to: str | None) -> None:
        """What only the first transition of an execution writes; to be called before `build`."""
        keys = self.write.keys
        trigger = StepId(self.plan.trigger)
        stored = {**self.meta._asdict(), "status": ExecutionStatus.RUNNING}
        if reply_to is not None:
            stored["reply_to"] = reply_to
        self.write.set_fields(keys.meta, stored)
        self._put_outputs(trigger, trigger_outputs)
        self.tell.started(trigger, trigger_outputs)
        if max_seconds is not None:
            self.write.watch(self.write.execution_id, self.at + max_seconds * 1000)

    def build(
        self, before: State, after: State, event: Event, commands: Sequence[Command], report: Report
    ) -> Transaction:
        """The transaction that makes `after` of `before`, and carries out what was commanded."""
        self.before, self.after = before, after
        self.in_place = following(self.plan, commands) if self.here else None
        self.delays = {run.step: delay_of(run, self.at) for run in commands if isinstance(run, RunStep) and run.delay}
        self.about = getattr(event, "step", None)
        self._tell_event(event, report)
        # Before the commands: a step that was answered may be held at once, and that is another question.
        self._release()
        self.write.set_fields(self.write.keys.data, {edit_field(step): text for step, text in self.edits.items()})
        for command in commands:
            self._carry_out(command)
        self.iterations.follow(before, after)
        self._write_steps()
        self._call_journal_writer()
        return self.write

    def committed(self, snapshot: Snapshot) -> Committed:
        """What became of it, once it was applied."""
        command = self.in_place
        goes_on = TaskId(self.write.execution_id, command.step, command.attempt) if command else None
        outputs = {output_field(step): text for step, text in self.outputs.items()}
        return Committed(snapshot, self.at, goes_on, outputs)

    def settle(self) -> None:
        """What the transition leaves to be done once it is committed; nothing depends on when."""
        for work in self.iterations.settled_pages(self.after):
            work()

    def _release(self) -> None:
        """Ask nobody any more about a step that goes on, or that was dropped with its iteration."""
        if self.after.status.is_final:
            return
        for step, known in self.before.steps.items():
            following = self.after.steps.get(step)
            if known.status in ASKING and (following is None or following.status is not known.status):
                self.tell.released(step)
            if known.status is StepStatus.WAITING and following is None:
                # It may have waited for another execution, which nobody is interested in any more.
                self._attend(TaskId(self.write.execution_id, step, known.attempt))

    def _write_steps(self) -> None:
        keys = self.write.keys
        written, dropped = codec.delta(self.before.steps, self.after.steps)
        self.write.set_fields(keys.steps, written)
        self.write.delete_fields(keys.steps, dropped)
        gone = [StepId.parse(text) for text in dropped]
        # What settles within the iteration that it completes is dropped without ever having been in the state.
        gone += [step for step in self.outputs if step not in self.after.steps and step not in gone]
        self.write.delete_fields(keys.data, [name(step) for step in gone for name in STEP_FIELDS])
        self.write.delete_fields(keys.meta, [claim_field(step) for step in gone])
        ended = [step for step in gone if step in self.before.steps and not self.before.steps[step].is_settled]
        self.write.unwatch(*(self._task_id(step, self.before.steps[step].attempt) for step in ended))
        if ended and not self.after.status.is_final:
            self._break_off()

    def _call_journal_writer(self) -> None:
        is_over = self.after.status.is_final
        if not is_over and not self.tools.dispatcher.calls_writer(self.at):
            return
        drain = self.tools.dispatcher.drain(is_urgent=is_over)
        self.write.call("ONCE", writer_flag(is_urgent=is_over), 1_000, "LPUSH", drain.key, drain.payload)

    def _tell_event(self, event: Event, report: Report) -> None:
        match event:
            case StepSucceeded(step, attempt, route) | StepResumed(step, attempt, route):
                self._end_attempt(step, attempt)
                self._succeeded(step, attempt, route, report)
            case StepIterating(step, attempt, total):
                self._end_attempt(step, attempt)
                self.tell.items(step, attempt, total, report)
                self._iterating(step, total, report)
            case StepSuspended(step, attempt):
                self._end_attempt(step, attempt)
                self.tell.suspension(step, attempt, report)
                self._suspended(step, attempt, report)
            case StepFailed(step, attempt, failure):
                self._end_attempt(step, attempt)
                self._failed(step, attempt, failure, report)
            case StepLost(step, attempt, is_safe, reason):
                self._end_attempt(step, attempt)
                self._failed(step, attempt, _lost(reason, is_safe), report)
            case StepReleased(step, is_after):
                self._released(step, is_after, report)
            case _:
                pass

    def _released(self, step: StepId, is_after: bool, report: Report) -> None:
        """A person let the step go on, be it with something in the place of what it had."""
        if is_after:
            self.tell.checkpoint(step, 0, Checkpoint.RELEASED_AFTER)
            self._released_after(step, report)
            return
        self.tell.checkpoint(step, 0, Checkpoint.RELEASED_BEFORE, report.outputs)
        if report.outputs is not None:
            self.write.call("HSET", self.write.keys.data, edit_field(step), report.outputs)
        self.holds.release(step)

    def _succeeded(self, step: StepId, attempt: int, route: str | None, report: Report) -> None:
        outputs = report.outputs or "{}"
        self._put_outputs(step, outputs)
        waited = self.holds.before(step, attempt)
        duration = self.tell.log(step, attempt, "success", report, waited_ms=waited, route=route)
        known = self.after.steps.get(step)
        status = "waiting" if known is not None and known.status in HELD else "success"
        self.tell.step(step, status, output=outputs, duration_ms=duration)

    def _iterating(self, step: StepId, total: int, report: Report) -> None:
        self.iterations.begin(step, total, report.items, report.parked(self.at, is_waiting=False).kept())

    def _suspended(self, step: StepId, attempt: int, report: Report) -> None:
        kept = report.parked(self.at, is_waiting=True).kept()
        self.write.call("HSET", self.write.keys.data, report_field(step), kept)
        self.tell.step(step, "waiting")
        task = TaskId(self.write.execution_id, step, attempt)
        kind = waiting.kind_of(report.until)
        if kind is waiting.Kind.CHILD:
            self._attend(task)
            self.write.watch(str(task), self.at + ASK_AGAIN_MS)
        elif kind is not None:
            question = report.until if kind is waiting.Kind.APPROVAL else None
            self.tell.held(step, kind, report.wake_ms, question)
        if report.wake_ms is None:
            return
        self.write.watch(str(task), report.wake_ms)
        delay = max(0, report.wake_ms - self.at)
        if delay <= WITHIN_MS:
            message = self.tools.dispatcher.wake(task, delay=delay / 1000)
            self.write.call("LPUSH", message.key, message.payload)

    def _attend(self, task: TaskId) -> None:
        message = self.tools.dispatcher.attend(task)
        self.write.call("LPUSH", message.key, message.payload)

    def _released_after(self, step: StepId, report: Report) -> None:
        """A person let the step's outputs pass, or put others in their place."""
        if report.outputs is not None:
            self._put_outputs(step, report.outputs)
            self.tell.edited(step, self.before.steps[step].attempt, report.outputs)
        if (known := self.before.steps.get(step)) is not None:
            self.tell.waited(step, known.attempt, self.holds.waited(step))
        self.tell.step(step, "success", output=report.outputs)

    def _failed(self, step: StepId, attempt: int, failure: Failure, report: Report) -> None:
        delay = self.delays.get(step, 0.0)
        waited = self.holds.before(step, attempt) + delay
        duration = self.tell.log(step, attempt, "failed", report, failure=failure, waited_ms=waited)
        self.tell.step(
            step, "failed", error=failure.message, error_code=failure.code, duration_ms=duration, attempt=attempt
        )
        if delay:
            self.holds.put_off(step, attempt + 1, delay, self.tell.waiting[step] - delay)
        known = self.after.steps.get(step)
        if known is not None and known.status is StepStatus.FAILED:
            error: dict[str, Json] = {"message": failure.message, "code": failure.code, "node_id": step.node}
            self._put_outputs(step, values.encode_outputs({ERROR_PORT: error}))

    def _end_attempt(self, step: StepId, attempt: int) -> None:
        self.write.unwatch(self._task_id(step, attempt))
        self.write.delete_fields(self.write.keys.meta, [claim_field(step)])

    def _carry_out(self, command: Command) -> None:
        match command:
            case RunStep():
                self._run(command)
            case HoldStep(step, is_after):
                self.tell.held(step, "after" if is_after else "before")
                self.holds.begin(step, self.tell.waiting.get(step, 0.0))
                if not is_after:
                    self.tell.step(step, "waiting")
            case SkipStep(step):
                self.tell.skipped(step)
            case UseDefault(step):
                outputs = values.encode_outputs(values.default_outputs(self.plan.nodes[step.node]))
                self._put_outputs(step, outputs)
                self.tell.step(step, "success", output=outputs)
            case CollectResult():
                self._collect(command)
            case FinishLoop(loop, total):
                self._finish_loop(loop, total)
            case GiveUpLoop():
                self._give_up_loop(command)
            case Finish():
                self._finish(command)
            case _:
                assert_never(command)

    def _take(self, command: RunStep, here: Here) -> None:
        """Claim the step for the process that makes it ready."""
        step, attempt = command.step, command.attempt
        self.write.call(
            "HSET", self.write.keys.meta, claim_field(step), here.claim(attempt, Stopwatch(self.at, self.at))
        )
        self.write.watch(self._task_id(step, attempt), self.at + here.lease_ms)
        self.write.event(node_status(self.write.execution_id, step, "running", self.at, attempt=attempt))

    def _run(self, command: RunStep) -> None:
        if self.here and command is self.in_place:
            self._take(command, self.here)
            return
        delay = self.delays.get(command.step) or delay_of(command, self.at)
        due = self.at + delay
        task = TaskId(self.write.execution_id, command.step, command.attempt)
        lane = lane_of(self.plan.nodes[command.step.node])
        if delay > WITHIN_MS:
            self.write.call("HSET", self.write.keys.data, postponed_field(command.step), command.attempt)
            self.write.watch(str(task), due)
            return
        message = self.tools.dispatcher.step(task, meta=self.meta, due_ms=due, lane=lane, delay=delay / 1000)
        self.write.call("LPUSH", message.key, message.payload)
        self.write.watch(str(task), due + UNCLAIMED_MS)

    def _collect(self, command: CollectResult) -> None:
        if command.failure is not None:
            failed: dict[str, Json] = {"error": command.failure.message, "error_code": command.failure.code}
            result = codec.dump_json(failed)
        elif command.source is not None:
            result = values.result_of(self._outputs_of([command.source])[command.source])
        else:
            result = "null"
        self.iterations.collect(command.loop, command.index, result)

    def _finish_loop(self, loop: StepId, total: int) -> None:
        known = self.after.steps.get(loop) or self.before.steps[loop]
        outputs, kept = self.iterations.finish(loop, known.attempt, total)
        self._succeeded(loop, known.attempt, None, replace(Report.read(kept), outputs=outputs))

    def _give_up_loop(self, command: GiveUpLoop) -> None:
        loop = command.loop
        report = Report.read(self.tools.store.values(self.write.execution_id, [report_field(loop)])[report_field(loop)])
        # Whatever is true of the step that it is given up for: a loop is not tried again.
        self._failed(loop, command.attempt, replace(command.failure, retryable=False), report)
        self.iterations.give_up(loop)

    def _finish(self, command: Finish) -> None:
        output = self._final_output() if command.status is ExecutionStatus.COMPLETED else None
        in_flight = [self._task_id(step, self.before.steps[step].attempt) for step in self.before.in_flight]
        self.write.unwatch(self.write.execution_id, *in_flight)
        self.write.call("HSET", self.write.keys.meta, "status", command.status)
        self._break_off()
        if self.meta.group:
            groups.free(self.write, self.meta.group, self.tools.dispatcher.start_next(self.meta.group))
        self.tell.ended(command.status, self.meta.started_ms, output, command.failure, command.step)

    def _break_off(self) -> None:
        """Write down which steps come to no end of their own by this."""
        broken_off.write_down(self.tell, self.holds, self.before, self.after, self.about)

    def _final_output(self) -> str | None:
        """The value of the one step that nothing followed; of several, an object by node; None if there is none."""
        last = [
            step
            for step, known in self.after.steps.items()
            if not step.scope
            and known.status is StepStatus.SUCCEEDED
            and not any(takes(known, edge) for edge in self.plan.outgoing[step.node])
        ]
        found = {step.node: values.result_of(text) for step, text in self._outputs_of(last).items()}
        if len(found) == 1:
            return next(iter(found.values()))
        order = [node for node in self.plan.nodes if node in found]
        return "{" + ",".join(f"{codec.dump_json(node)}:{found[node]}" for node in order) + "}" if order else None

    def _outputs_of(self, steps: Sequence[StepId]) -> dict[StepId, str]:
        """The outputs of settled steps: of this transition, or as they were stored before it."""
        fields = [output_field(step) for step in steps if step not in self.outputs]
        stored = self.tools.store.values(self.write.execution_id, fields)
        return {step: self.outputs.get(step) or stored[output_field(step)] or "{}" for step in steps}

    def _put_outputs(self, step: StepId, outputs: str) -> None:
        self.outputs[step] = outputs
        self.write.call("HSET", self.write.keys.data, output_field(step), outputs)

    def _task_id(self, step: StepId, attempt: int) -> str:
        return str(TaskId(self.write.execution_id, step, attempt))


def _lost(reason: str, is_safe: bool) -> Failure:
    message = f"The worker died while it ran this attempt{f': {reason}' if reason else ''}."
    return Failure("worker_lost", message, retryable=is_safe)
