"""A second opinion: what a plan comes to, by plain recursion from its edges backwards, without events or state."""

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from pipelit.engine.core.graph import Edge, Join, On, OnError, OnItemError, Plan, Scope
from pipelit.engine.core.state import ExecutionStatus, StepId
from tests.engine.core.driver import FAILED_ITEM, Behaviour, Fail, Iterate, Lose, Succeed, Value, Wait, answer_of

DEATHS = 3
"""How often a worker has to die with a step before the step is given up."""


class End(StrEnum):
    """How a step ends. What lies behind a stopped step is never decided: it is unreached."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    STOPPED = "stopped"
    UNREACHED = "unreached"


@dataclass(frozen=True, slots=True)
class Fate:
    end: End
    route: str | None = None
    value: Value = None


@dataclass(slots=True)
class Oracle:
    """Knows the end of each step; `open_scopes` are iterations that end early, so that not all in them need run."""

    plan: Plan
    behaviour: Behaviour
    fates: dict[StepId, Fate] = field(default_factory=dict)
    attempts: set[tuple[StepId, int]] = field(default_factory=set)
    open_scopes: set[Scope] = field(default_factory=set)

    @classmethod
    def of(cls, plan: Plan, behaviour: Behaviour) -> "Oracle":
        """The oracle after it has considered every node at top level, and what is inside them."""
        oracle = cls(plan, behaviour)
        for node in plan.nodes.values():
            if node.loop is None:
                oracle.fate(StepId(node.id))
        return oracle

    @property
    def status(self) -> ExecutionStatus:
        stopped = any(not step.scope and fate.end is End.STOPPED for step, fate in self.fates.items())
        return ExecutionStatus.FAILED if stopped else ExecutionStatus.COMPLETED

    @property
    def certain(self) -> set[tuple[StepId, int]]:
        """The attempts that must have been run when the execution has completed."""
        return {(step, attempt) for step, attempt in self.attempts if self.is_certain(step)}

    def is_certain(self, step: StepId) -> bool:
        return all(step.scope[: depth + 1] not in self.open_scopes for depth in range(len(step.scope)))

    def fate(self, step: StepId) -> Fate:
        if step not in self.fates:
            self.fates[step] = self._fate(step)
        return self.fates[step]

    def _fate(self, step: StepId) -> Fate:
        if step.node == self.plan.trigger:
            return Fate(End.SUCCEEDED)
        taken = [self._is_taken(edge, step.scope) for edge in self.plan.edges if edge.target == step.node]
        patient = self.plan.nodes[step.node].join is Join.ALL
        if True in taken and not (patient and None in taken):
            return self._run(step)
        return Fate(End.UNREACHED if None in taken else End.SKIPPED)

    def _is_taken(self, edge: Edge, scope: Scope) -> bool | None:
        if edge.on is On.BODY:
            return True
        source = self.fate(StepId(edge.source, scope))
        if source.end in {End.STOPPED, End.UNREACHED}:
            return None
        wanted = End.FAILED if edge.on is On.ERROR else End.SUCCEEDED
        return source.end is wanted and (edge.on is not On.ROUTE or source.route == edge.route)

    def _run(self, step: StepId) -> Fate:
        failures = losses = 0
        for attempt in count(1):
            self.attempts.add((step, attempt))
            answer = answer_of(self.plan, self.behaviour, step, attempt)
            match answer.then if isinstance(answer, Wait) else answer:
                case Succeed(route):
                    return Fate(End.SUCCEEDED, route, f"{step}#{attempt}")
                case Iterate(total):
                    return self._iterate(step, total)
                case Fail(retryable):
                    failures += 1
                    if not retryable or failures == self.plan.nodes[step.node].policy.retry.attempts:
                        break
                case Lose(is_safe):
                    losses += 1
                    if not is_safe or losses == DEATHS:
                        break
        return self._failed(step)

    def _failed(self, step: StepId) -> Fate:
        match self.plan.nodes[step.node].policy.on_error:
            case OnError.STOP:
                return Fate(End.STOPPED)
            case OnError.CONTINUE:
                return Fate(End.FAILED)
            case OnError.DEFAULT:
                return Fate(End.SUCCEEDED, value=f"{step} default")

    def _iterate(self, step: StepId, total: int) -> Fate:
        loop = self.plan.loops[step.node]
        scopes = [(*step.scope, (step.node, index)) for index in range(total)]
        stopped = [scope for scope in scopes if self._is_stopped(scope)]
        if stopped and loop.on_error is OnItemError.STOP:
            self.open_scopes.update(scopes)
            return self._failed(step)
        self.open_scopes.update(stopped)
        given_up = FAILED_ITEM if loop.on_error is OnItemError.COLLECT else None
        return Fate(
            End.SUCCEEDED, value=[given_up if scope in stopped else self._result(step, scope) for scope in scopes]
        )

    def _is_stopped(self, scope: Scope) -> bool:
        inside = [node.id for node in self.plan.nodes.values() if node.loop == scope[-1][0]]
        return End.STOPPED in {self.fate(StepId(node, scope)).end for node in inside}

    def _result(self, step: StepId, scope: Scope) -> Value:
        for node in self.plan.loops[step.node].returns:
            fate = self.fate(StepId(node, scope))
            if fate.end is End.SUCCEEDED:
                return fate.value
        return None
