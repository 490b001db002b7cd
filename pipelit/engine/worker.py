"""Runs one attempt of a step: claim it, resolve its inputs, run the node, report."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from pipelit import clock
from pipelit.engine import blobs, broadcast, durability, pages, values, waiting
from pipelit.engine.brake import Brake
from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core import codec
from pipelit.engine.core.events import (
    Event,
    Failure,
    StepFailed,
    StepIterating,
    StepLost,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import Json, Plan, PlanNode
from pipelit.engine.core.state import State
from pipelit.engine.durability import Durability
from pipelit.engine.keys import TaskId
from pipelit.engine.lease import BEAT_SECONDS, Heart, Lease, is_dead, owner
from pipelit.engine.narrator import Report, node_status
from pipelit.engine.reading import ClaimedStep, fields_read
from pipelit.engine.slices import SLICE_MS, Committed, Here, Placement, found_again
from pipelit.engine.store import PAUSE_SECONDS, Claim, Meta, Taken, patiently
from pipelit.engine.strangers import Strangers
from pipelit.engine.timing import Stopwatch, report_of_lost
from pipelit.errors import NodeCrashed, OutOfMemory, OutputTooLarge, StepError
from pipelit.extensions import db
from pipelit.integrations.http import HttpClient
from pipelit.models.execution import LIVE, WorkflowExecution
from pipelit.nodes import registry
from pipelit.nodes.base import Input, NodeType, StepNode
from pipelit.nodes.outcome import Completed, Iterating, Outcome, Suspended

log = structlog.get_logger(__name__)

OUT_OF_MEMORY = "The step needs more memory than a process of this worker may have (PIPELIT_STEP_MEMORY_MB)."

INPUT_LIMIT = 65_536
"""How much of a step's resolved config is kept in the execution log."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step is held to: seconds of its lease and of its run, bytes of an output in the working state, and at all.

    `slice_ms` is for how long a task may go on in place with the steps that follow.
    """

    lease: float
    timeout: float
    blob_bytes: int
    output_bytes: int
    slice_ms: int = SLICE_MS


class Worker:
    """What a worker process does for each message that names a step."""

    def __init__(
        self, coordinator: Coordinator, http: HttpClient, limits: Limits, types: Mapping[str, NodeType[Any]]
    ) -> None:
        self.coordinator = coordinator
        self.http = http
        self.limits = limits
        self.types = types
        self.strangers = Strangers(coordinator, types)
        self._familiar: set[str] = set()
        """Hashes of plans of which every node type is known here."""
        self.brake = Brake()
        self.heart = Heart(coordinator.store, self.brake, every=min(BEAT_SECONDS, limits.lease / 3))

    def run(self, task: TaskId, *, due_ms: float, meta: Meta) -> None:
        """Run the attempt, unless it is not current any more or somebody else is at it."""
        plan = patiently(lambda: blobs.patiently(lambda: self._plan(meta)))
        watch = Stopwatch(due_ms, clock.precise_ms())
        if self._is_strange(plan, meta) and patiently(lambda: self.strangers.hand_on(plan, task, watch, meta)):
            return
        claim = self._here().claim(task.attempt, watch)
        match patiently(lambda: self._claim(plan, task, meta, claim, watch.started_ms)):
            case Claim() as claimed:
                self._run_slice(ClaimedStep(plan, task, claimed, meta, watch))
            case Taken(by) if is_dead(by.split(" ")[1]):
                patiently(lambda: self.lost(task))
            case _:
                log.info("delivery_ignored", task=str(task))
                patiently(lambda: self._take_over_from_the_dead(task.execution_id))

    def lost(self, task: TaskId) -> bool:
        """Report that the process which ran the attempt is gone, and how it died, if that is known."""
        reason = self.coordinator.store.death(task)

        def event(state: State) -> Event | None:
            loaded = self.coordinator.store.load(task.execution_id)
            if loaded is None:
                return None
            plan = self.coordinator.plans.get(loaded[1].workflow_id, loaded[1].plan_hash)
            return StepLost(task.step, task.attempt, is_safe_to_repeat(plan.nodes[task.step.node]), reason)

        claim = self.coordinator.store.owner(task.execution_id, task.step)
        return self.coordinator.tell(task.execution_id, event, report_of_lost(claim, clock.precise_ms()))

    def _is_strange(self, plan: Plan, meta: Meta) -> bool:
        """Whether a plan has node types that this process does not know; each plan is looked through once."""
        if meta.plan_hash in self._familiar:
            return False
        if self.strangers.unknown(plan):
            return True
        self._familiar.add(meta.plan_hash)
        return False

    def _plan(self, meta: Meta) -> Plan:
        return self.coordinator.plans.get(meta.workflow_id, meta.plan_hash)

    def _claim(self, plan: Plan, task: TaskId, meta: Meta, claim: str, at: float) -> Claim | Taken | None:
        return self.coordinator.store.claim(
            task,
            claim=claim,
            lease_until=round(at + self.limits.lease * 1000),
            event=node_status(task.execution_id, task.step, "running", at, attempt=task.attempt),
            channels=(
                broadcast.PREFIX + broadcast.workflow_channel(meta.slug),
                broadcast.PREFIX + broadcast.execution_channel(task.execution_id),
            ),
            fields=fields_read(plan, task.step),
        )

    def _here(self) -> Here:
        return Here(owner(), round(self.limits.lease * 1000))

    def _take_over_from_the_dead(self, execution_id: str) -> None:
        """Report steps whose process is gone and for which no message is left, since it went on with them in place."""
        for step, claim in self.coordinator.store.claims(execution_id).items():
            attempt, claimed_by, *_ = claim.split(" ")
            if is_dead(claimed_by):
                self.lost(TaskId(execution_id, step, int(attempt)))

    def _run_slice(self, step: ClaimedStep) -> None:
        """Run a step, and in place what follows, for as long as that is allowed."""
        until = step.watch.started_ms + self.limits.slice_ms
        is_local = step.meta.placement == Placement.LOCAL
        running: ClaimedStep | None = step
        while running is not None:
            may_go_on = is_local and clock.precise_ms() < until
            running = self._following(running, self._run(running, self._here() if may_go_on else None))

    def _following(self, step: ClaimedStep, done: Committed | None) -> ClaimedStep | None:
        """The step that goes on in place, with what it reads; of that, what this slice has read is not read again."""
        if done is None or done.following is None:
            return None
        task = done.following
        known = {**step.claim.values, **done.outputs}
        missing = [field for field in fields_read(step.plan, task.step) if known.get(field) is None]
        known |= patiently(lambda: self.coordinator.store.values(task.execution_id, missing))
        return ClaimedStep(step.plan, task, Claim(done.snapshot, known), step.meta, Stopwatch(done.at_ms, done.at_ms))

    def _run(self, step: ClaimedStep, here: Here | None) -> Committed | None:
        lease = Lease(step.task, self.limits.lease)
        with structlog.contextvars.bound_contextvars(task=str(step.task)), self.heart.beating(lease):
            event, report = self._recorded(step) or self._begun_before(step) or self._attempt(step, lease)
            if step.meta.durability == Durability.SYNC:
                durability.record(step, event, report)
            try:
                return self._commit(step, event, report, here)
            except MemoryError:
                log.warning("out_of_memory_at_commit")
                if step.meta.durability == Durability.SYNC:
                    # What is recorded holds: the next attempt reports it, and says of this one how it ended.
                    self.coordinator.store.note_death(owner().rpartition("/")[0], OUT_OF_MEMORY)
                    raise
            return self._commit(step, *_failed(step, OutOfMemory(OUT_OF_MEMORY), report.input), here)

    def _commit(self, step: ClaimedStep, event: Event, report: Report, here: Here | None) -> Committed | None:
        known, execution_id = (step.claim.snapshot, step.meta), step.task.execution_id
        done = patiently(lambda: self.coordinator.commit(execution_id, event, report, known=known, here=here))
        while done is None and patiently(lambda: self._is_lost(execution_id)):
            time.sleep(PAUSE_SECONDS)
            done = patiently(lambda: self.coordinator.commit(execution_id, event, report))
        if done is None and here is not None:
            # It may have been applied: then the next step is claimed for us, and nobody else would run it.
            done = patiently(lambda: found_again(self.coordinator.store, execution_id, here))
        return done

    def _recorded(self, step: ClaimedStep) -> tuple[Event, Report] | None:
        """What the step has come to already, if that was to be recorded before anything follows from it."""
        if step.meta.durability != Durability.SYNC:
            return None
        found = durability.recorded(step)
        _end_reading()
        return found

    def _begun_before(self, step: ClaimedStep) -> tuple[Event, Report] | None:
        """What came of an attempt that has begun before, if it must not be made twice; given up if nobody knows."""
        if is_safe_to_repeat(step.node) or durability.begin(step):
            return None
        log.warning("attempt_begun_before", task=str(step.task))
        found = durability.recorded(step)
        _end_reading()
        return found or (StepLost(step.task.step, step.task.attempt, is_safe=False), step.watch.report(None))

    def _is_lost(self, execution_id: str) -> bool:
        """Whether the server has lost an execution that SQL says is under way: what a step returned is kept for it."""
        if not self.coordinator.store.is_lost([execution_id])[0]:
            return False
        query = select(WorkflowExecution.status).where(WorkflowExecution.execution_id == execution_id)
        status = blobs.patiently(lambda: db.session.scalar(query))
        _end_reading()
        return status in LIVE

    def _attempt(self, step: ClaimedStep, lease: Lease) -> tuple[Event, Report]:
        node_type: StepNode[Any] = self.types[step.node.type]  # type: ignore[assignment]  # only steps are sent
        given: str | None = None
        try:
            resolved = step.resolve()
            given = _shown_input(resolved)
            config = node_type.configure(resolved)
            _end_reading()
            context = Context(step, self.http, lease)
            limit = step.node.policy.timeout or self.limits.timeout
            step.watch.begin()
            outcome = self.brake.run(lambda: node_type.run(config, context), lease, limit=limit)
            return self._reported(step, outcome, step.watch.report(given))
        except StepError as error:
            return _failed(step, error, given)
        except MemoryError:
            return _failed(step, OutOfMemory(OUT_OF_MEMORY), given)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # Whatever a node type lets escape fails its step, never the worker.
            log.exception("node_crashed")
            return _failed(step, NodeCrashed(f"{type(error).__name__}: {error}"), given)

    def _reported(self, step: ClaimedStep, outcome: Outcome, report: Report) -> tuple[Event, Report]:
        task = step.task
        match outcome:
            case Completed(outputs, route):
                outputs_text = self._kept(step, outputs)
                return StepSucceeded(task.step, task.attempt, route), replace(report, outputs=outputs_text)
            case Iterating(items):
                first_page = self._kept_items(task, items)
                return StepIterating(task.step, task.attempt, len(items)), replace(report, items=first_page)
            case Suspended(until, outputs):
                report = replace(report, wake_ms=waiting.wake_ms(until), until=waiting.described(until))
                report = replace(report, outputs=self._kept(step, outputs))
                return StepSuspended(task.step, task.attempt), report
            case _:
                assert_never(outcome)

    def _kept(self, step: ClaimedStep, outputs: Mapping[str, Json]) -> str:
        text = values.encode_outputs(outputs)
        if len(text) > self.limits.output_bytes:
            port = max(outputs, key=lambda name: len(codec.dump_json(outputs[name])))
            raise OutputTooLarge(
                f"The outputs have {len(text)} bytes of JSON, most of them in '{port}'; "
                f"the limit is {self.limits.output_bytes} (PIPELIT_OUTPUT_BYTES)."
            )
        if len(text) <= self.limits.blob_bytes:
            return text
        return blobs.patiently(lambda: blobs.put(step.task.execution_id, outputs, self.limits.blob_bytes))

    def _kept_items(self, task: TaskId, items: Sequence[Json]) -> tuple[str, ...]:
        kept = pages.Pages.of_items(task.execution_id, task.step, task.attempt)
        inline, most = self.limits.blob_bytes // 4, self.limits.output_bytes
        return blobs.patiently(lambda: pages.kept_items(kept, items, inline=inline, most=most))


def _end_reading() -> None:
    """Close the transaction in which a plan or a large output was read, if one was: nothing runs inside one.

    Who has read all that it needs does not mind that the connection broke meanwhile: the next one reads on another.
    """
    if db.session.registry.has():
        with suppress(DBAPIError):
            db.session.rollback()


def is_safe_to_repeat(node: PlanNode) -> bool:
    """Whether a step may run again when its worker died: the author's word, or else the node type's."""
    failure = node.config.get("failure")
    chosen = failure.get("safe_to_retry") if isinstance(failure, dict) else None
    if isinstance(chosen, bool):
        return chosen
    node_type = registry.get(node.type)
    return isinstance(node_type, StepNode) and node_type.is_safe_to_repeat(node.config)


def _shown_input(resolved: Mapping[str, Json]) -> str:
    text = values.encode_outputs({name: value for name, value in resolved.items() if name != "failure"})
    return text if len(text) <= INPUT_LIMIT else codec.dump_json({"truncated": True, "text": text[:INPUT_LIMIT]})


def _failed(step: ClaimedStep, error: StepError, given: str | None) -> tuple[Event, Report]:
    failure = Failure(error.code, error.detail[:4000], error.retryable, getattr(error, "after", None))
    log.info("step_failed", error=failure.code, retryable=failure.retryable)
    return StepFailed(step.task.step, step.task.attempt, failure), step.watch.report(given)


@dataclass(frozen=True)
class Context:
    """`nodes.base.StepContext` for a claimed attempt."""

    step: ClaimedStep
    http: HttpClient
    lease: Lease

    @property
    def execution_id(self) -> str:
        return self.step.task.execution_id

    @property
    def node_id(self) -> str:
        return self.step.node.id

    @property
    def attempt(self) -> int:
        return self.step.task.attempt

    @property
    def idempotency_key(self) -> str:
        _, _, scope = str(self.step.task.step).partition("@")
        return f"{self.execution_id}/{self.node_id}/{scope}"

    @property
    def inputs(self) -> Sequence[Input]:
        return self.step.inputs

    @property
    def values(self) -> Mapping[str, Json]:
        return self.step.scope

    def now(self) -> datetime:
        return clock.now()

    def is_cancelled(self) -> bool:
        return self.lease.is_cancelled
