"""Runs one attempt of a step: claim it, resolve its inputs, run the node, report."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, assert_never

import structlog

from pipelit import clock
from pipelit.engine import blobs, broadcast, expressions, values
from pipelit.engine.compiler import LOOP, TRIGGER
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
from pipelit.engine.core.graph import Edge, Json, NodeId, On, Plan, PlanNode
from pipelit.engine.core.state import State, StepId, takes
from pipelit.engine.keys import TaskId, item_field, output_field, total_field
from pipelit.engine.lease import BEAT_SECONDS, Heart, Lease, is_dead, owner, time_limit
from pipelit.engine.narrator import Report, node_status
from pipelit.engine.store import Claim, Meta, Taken, patiently
from pipelit.errors import ExpressionError, NodeCrashed, StepError
from pipelit.integrations.http import HttpClient
from pipelit.nodes import registry
from pipelit.nodes.base import Input, NodeType, StepNode
from pipelit.nodes.outcome import Completed, External, Iterating, Outcome, Suspended, Timer

log = structlog.get_logger(__name__)

INPUT_LIMIT = 65_536
"""How much of a step's resolved config is kept in the execution log."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step is held to: seconds of its lease and of its run, bytes of an output kept in the working state."""

    lease: float
    timeout: float
    blob_bytes: int


class Worker:
    """What a worker process does for each message that names a step."""

    def __init__(
        self, coordinator: Coordinator, http: HttpClient, limits: Limits, types: Mapping[str, NodeType[Any]]
    ) -> None:
        self.coordinator = coordinator
        self.http = http
        self.limits = limits
        self.types = types
        self.heart = Heart(coordinator.store, every=min(BEAT_SECONDS, limits.lease / 3))

    def run(self, task: TaskId, *, due_ms: int, meta: Meta) -> None:
        """Run the attempt, unless it is not current any more or somebody else is at it."""
        plan = self.coordinator.plans.get(meta.workflow_id, meta.plan_hash)
        started = clock.now_ms()
        claim = f"{task.attempt} {owner()} {uuid.uuid4().hex}"
        match patiently(lambda: self._claim(plan, task, meta, claim, started)):
            case Claim() as claimed:
                self._run(_Step(plan, task, claimed, meta, max(0, started - due_ms), started))
            case Taken(by) if is_dead(by.split(" ")[1]):
                patiently(lambda: self.lost(task))
            case _:
                log.info("delivery_ignored", task=str(task))

    def lost(self, task: TaskId) -> bool:
        """Report that the process which ran the attempt is gone."""

        def event(state: State) -> Event | None:
            loaded = self.coordinator.store.load(task.execution_id)
            if loaded is None:
                return None
            plan = self.coordinator.plans.get(loaded[1].workflow_id, loaded[1].plan_hash)
            return StepLost(task.step, task.attempt, is_safe_to_repeat(plan.nodes[task.step.node]))

        return self.coordinator.tell(task.execution_id, event)

    def _claim(self, plan: Plan, task: TaskId, meta: Meta, claim: str, at: int) -> Claim | Taken | None:
        return self.coordinator.store.claim(
            task,
            claim=claim,
            lease_until=at + round(self.limits.lease * 1000),
            event=node_status(task.execution_id, task.step, "running", at, attempt=task.attempt),
            channels=(
                broadcast.PREFIX + broadcast.workflow_channel(meta.slug),
                broadcast.PREFIX + broadcast.execution_channel(task.execution_id),
            ),
            fields=fields_read(plan, task.step),
        )

    def _run(self, step: "_Step") -> None:
        with structlog.contextvars.bound_contextvars(task=str(step.task)):
            event, report = self._attempt(step)
            known = (step.claim.snapshot, step.meta)
            patiently(lambda: self.coordinator.tell(step.task.execution_id, event, report, known=known))

    def _attempt(self, step: "_Step") -> tuple[Event, Report]:
        node_type: StepNode[Any] = self.types[step.node.type]  # type: ignore[assignment]  # only steps are sent
        given: str | None = None
        try:
            resolved = step.resolve()
            given = _shown_input(resolved)
            config = node_type.configure(resolved)
            context = Context(step, self.http, Lease(step.task, self.limits.lease))
            with self.heart.beating(context.lease), time_limit(step.node.policy.timeout or self.limits.timeout):
                outcome = node_type.run(config, context)
            return self._reported(step, outcome, given)
        except StepError as error:
            return _failed(step, error, given)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # Whatever a node type lets escape fails its step, never the worker.
            log.exception("node_crashed")
            return _failed(step, NodeCrashed(f"{type(error).__name__}: {error}"), given)

    def _reported(self, step: "_Step", outcome: Outcome, given: str | None) -> tuple[Event, Report]:
        task, report = step.task, Report(given, queued_ms=step.queued_ms, started_ms=step.started_ms)
        match outcome:
            case Completed(outputs, route):
                outputs_text = self._kept(step, outputs)
                return StepSucceeded(task.step, task.attempt, route), replace(report, outputs=outputs_text)
            case Iterating(items):
                values.encode_outputs({"items": list(items)})
                return StepIterating(task.step, task.attempt, len(items)), replace(report, items=tuple(items))
            case Suspended(until, outputs):
                wake = until.at if isinstance(until, Timer) else until.deadline
                wake_ms = None if wake is None else round(wake.timestamp() * 1000)
                asks, outputs_text = isinstance(until, External), self._kept(step, outputs)
                report = replace(report, outputs=outputs_text, wake_ms=wake_ms, asks=asks)
                return StepSuspended(task.step, task.attempt), report
            case _:
                assert_never(outcome)

    def _kept(self, step: "_Step", outputs: Mapping[str, Json]) -> str:
        text = values.encode_outputs(outputs)
        if len(text) <= self.limits.blob_bytes:
            return text
        return blobs.put(step.task.execution_id, outputs, self.limits.blob_bytes)


def is_safe_to_repeat(node: PlanNode) -> bool:
    """Whether a step may run again when its worker died: the author's word, or else the node type's."""
    failure = node.config.get("failure")
    chosen = failure.get("safe_to_retry") if isinstance(failure, dict) else None
    if isinstance(chosen, bool):
        return chosen
    node_type = registry.get(node.type)
    return isinstance(node_type, StepNode) and node_type.is_safe_to_repeat(node.config)


def fields_read(plan: Plan, step: StepId) -> list[str]:
    """The data fields that running a step needs: what its config reads, what its edges bring, its loops' items."""
    return list(dict.fromkeys([*_read_by_name(plan, step).values(), *_brought(plan, step), *_loop_fields(step)]))


def _read_by_name(plan: Plan, step: StepId) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in plan.nodes[step.node].reads:
        if name == TRIGGER:
            found[name] = output_field(StepId(plan.trigger))
        elif name in plan.nodes:
            found[name] = output_field(_seen_from(plan, name, step))
    return found


def _seen_from(plan: Plan, node: NodeId, step: StepId) -> StepId:
    """Where a node outside or beside `step` settled: in as many of the step's iterations as it stands in itself."""
    depth, around = 0, plan.nodes[node].loop
    while around is not None:
        depth, around = depth + 1, plan.nodes[around].loop
    return StepId(node, step.scope[:depth])


def _edges_in(plan: Plan, step: StepId) -> list[Edge]:
    return [edge for edge in plan.incoming[step.node] if edge.on is not On.BODY]


def _brought(plan: Plan, step: StepId) -> list[str]:
    return [output_field(StepId(edge.source, step.scope)) for edge in _edges_in(plan, step)]


def _loop_fields(step: StepId) -> list[str]:
    found = []
    for depth, (loop, index) in enumerate(step.scope):
        owner_step = StepId(loop, step.scope[:depth])
        found += [item_field(owner_step, index), total_field(owner_step)]
    return found


def _shown_input(resolved: Mapping[str, Json]) -> str:
    text = values.encode_outputs({name: value for name, value in resolved.items() if name != "failure"})
    return text if len(text) <= INPUT_LIMIT else codec.dump_json({"truncated": True, "text": text[:INPUT_LIMIT]})


def _failed(step: "_Step", error: StepError, given: str | None) -> tuple[Event, Report]:
    failure = Failure(error.code, error.detail[:4000], error.retryable, getattr(error, "after", None))
    log.info("step_failed", error=failure.code, retryable=failure.retryable)
    report = Report(given, queued_ms=step.queued_ms, started_ms=step.started_ms)
    return StepFailed(step.task.step, step.task.attempt, failure), report


@dataclass(frozen=True)
class _Step:
    """A claimed attempt with all that it reads."""

    plan: Plan
    task: TaskId
    claim: Claim
    meta: Meta
    queued_ms: int
    started_ms: int

    @property
    def node(self) -> PlanNode:
        return self.plan.nodes[self.task.step.node]

    @cached_property
    def scope(self) -> dict[str, Json]:
        """What expressions see."""
        seen = {name: self._ports(field) for name, field in _read_by_name(self.plan, self.task.step).items()}
        scope: dict[str, Json] = {name: ports for name, ports in seen.items() if ports is not None}
        if self.task.step.scope:
            scope[LOOP] = self._loop()
        return scope

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What the taken edges brought; into a loop's body that is the item."""
        step, state = self.task.step, self.claim.snapshot.state
        found = []
        for edge in self.plan.incoming[step.node]:
            if edge.on is On.BODY:
                item = self.scope[LOOP]
                found.append(
                    Input(edge.source, item["item"] if isinstance(item, dict) else None, "item", edge.target_port)
                )
                continue
            source = StepId(edge.source, step.scope)
            known = state.steps.get(source)
            if known is not None and known.is_settled and takes(known, edge):
                ports = self._ports(output_field(source)) or {}
                found.append(Input(edge.source, self._carried(edge, ports), edge.source_port, edge.target_port))
        return tuple(found)

    def _carried(self, edge: Edge, ports: dict[str, Json]) -> Json:
        """What an edge brings: the port it names, or else what its source's type says stands for all its ports."""
        if edge.source_port is not None:
            return ports.get(edge.source_port)
        return registry.get(self.plan.nodes[edge.source].type).value(ports)

    def resolve(self) -> dict[str, Json]:
        """The node's config with its templates rendered."""
        config = dict(self.node.config)
        try:
            resolved = expressions.resolve(config, self.scope, field="")
        except ExpressionError as error:
            raise ExpressionError(f"{self.node.id}: {error.detail}") from error
        return resolved if isinstance(resolved, dict) else {}

    def _loop(self) -> dict[str, Json]:
        """The innermost iteration as expressions see it: item, index, total, and the one around it as `parent`."""
        around: dict[str, Json] | None = None
        for depth, (loop, index) in enumerate(self.task.step.scope):
            owner_step = StepId(loop, self.task.step.scope[:depth])
            item, total = (self.claim.values[f] for f in (item_field(owner_step, index), total_field(owner_step)))
            around = {
                "item": blobs.read(item, self.task.execution_id) if item else None,
                "index": index,
                "total": int(total or 0),
                "parent": around,
            }
        return around or {}

    def _ports(self, field: str) -> dict[str, Json] | None:
        text = self.claim.values.get(field)
        ports = None if text is None else blobs.read(text, self.task.execution_id)
        return ports if isinstance(ports, dict) else None


@dataclass(frozen=True)
class Context:
    """`nodes.base.StepContext` for a claimed attempt."""

    step: _Step
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
