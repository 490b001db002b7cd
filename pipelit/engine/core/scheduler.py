"""`advance`: what follows from an event. The rules it keeps are named in docs/engine.md, a property for each."""

from collections import deque
from collections.abc import Iterable
from typing import assert_never

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
    Cancelled,
    Event,
    Failure,
    Started,
    StepFailed,
    StepIterating,
    StepLost,
    StepReleased,
    StepResumed,
    StepSucceeded,
    StepSuspended,
    TimedOut,
)
from pipelit.engine.core.graph import Edge, Join, NodeId, On, OnError, OnItemError, Plan, Scope
from pipelit.engine.core.state import ExecutionStatus, Progress, State, StepId, StepState, StepStatus, takes

MAX_LOSSES = 2
"""A step whose worker died this often runs no more: the third death would be its own doing."""


def advance(plan: Plan, state: State, event: Event) -> tuple[State, tuple[Command, ...]]:
    """The state after `event`, and what is to be done about it.

    An event that is late, repeated or about an attempt that is not current returns the state itself and no commands.
    """
    if state.status.is_final:
        return state, ()
    transition = _Transition(plan, state)
    transition.apply(event)
    return transition.outcome()


class _Transition:
    """The working copy of one `advance`."""

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        self.before = state
        self.status = state.status
        self.steps = dict(state.steps)
        self.commands: list[Command] = []
        self.changed = False
        self.unsettled: deque[StepId] = deque()

    def outcome(self) -> tuple[State, tuple[Command, ...]]:
        if not self.changed:
            return self.before, ()
        return self.before.replace(self.status, self.steps), tuple(self.commands)

    def apply(self, event: Event) -> None:
        match event:
            case Started():
                self._start()
            case StepReleased(step, is_after):
                self._release(step, is_after)
            case Cancelled(failure):
                self._finish(ExecutionStatus.CANCELLED, failure=failure)
            case TimedOut(failure, where):
                self._finish(ExecutionStatus.TIMED_OUT, where, failure)
            case _:
                self._apply_to_attempt(event)
        self._propagate()
        if self.changed and not self.status.is_final and all(known.is_settled for known in self.steps.values()):
            self._finish(ExecutionStatus.COMPLETED)

    def _apply_to_attempt(
        self, event: StepSucceeded | StepIterating | StepSuspended | StepResumed | StepFailed | StepLost
    ) -> None:
        known = self.steps.get(event.step)
        if known is None or known.attempt != event.attempt or known.status not in _told_while(event):
            return
        match event:
            case StepSucceeded(step, _, route) | StepResumed(step, _, route):
                self._succeed(step, known, route)
            case StepIterating(step, _, total):
                self._iterate(step, known, total)
            case StepSuspended(step):
                self._put(step, StepState(StepStatus.WAITING, known.attempt, known.failures, known.losses))
            case StepFailed(step, _, failure):
                self._fail(step, known, failure)
            case StepLost():
                self._lose(event, known)
            case _:
                assert_never(event)

    def _start(self) -> None:
        if self.status is not ExecutionStatus.PENDING:
            return
        self.status = ExecutionStatus.RUNNING
        self._settle(StepId(self.plan.trigger), StepState(StepStatus.SUCCEEDED))

    def _finish(self, status: ExecutionStatus, step: StepId | None = None, failure: Failure | None = None) -> None:
        self.status, self.changed = status, True
        self.commands.append(Finish(status, step, failure))

    def _put(self, step: StepId, known: StepState) -> None:
        self.steps[step] = known
        self.changed = True

    def _settle(self, step: StepId, known: StepState) -> None:
        self._put(step, known)
        self.unsettled.append(step)

    def _propagate(self) -> None:
        """Let everything that the settled steps decide be decided (rule 1), until nothing more follows."""
        while self.unsettled:
            step = self.unsettled.popleft()
            if step not in self.steps:
                continue  # its iteration was folded on behalf of a step that settled at the same time
            for edge in self.plan.outgoing[step.node]:
                self._decide(StepId(edge.target, step.scope))
            if step.scope:
                self._fold(step.scope)

    def _decide(self, step: StepId) -> None:
        """Run the step if it may, skip it if nothing leads to it, leave it while that is open."""
        if step in self.steps:
            return
        verdicts = [self._verdict(edge, step.scope) for edge in self.plan.incoming[step.node]]
        is_open = None in verdicts
        if any(verdicts) and (self.plan.nodes[step.node].join is Join.ANY or not is_open):
            self._ready(step)
        elif not is_open:
            self.commands.append(SkipStep(step))
            self._settle(step, StepState(StepStatus.SKIPPED))

    def _verdict(self, edge: Edge, scope: Scope) -> bool | None:
        """Whether the edge is taken; None while its source has not settled."""
        if edge.on is On.BODY:
            return True
        source = self.steps.get(StepId(edge.source, scope))
        if source is None or not source.is_settled:
            return None
        return takes(source, edge)

    def _ready(self, step: StepId) -> None:
        if self.plan.nodes[step.node].interrupt_before:
            self._put(step, StepState(StepStatus.HELD_BEFORE))
            self.commands.append(HoldStep(step, is_after=False))
        else:
            self._run(step, StepState(StepStatus.READY, attempt=1))

    def _run(self, step: StepId, known: StepState, delay: float = 0.0, jitter: float = 0.0) -> None:
        self._put(step, known)
        self.commands.append(RunStep(step, known.attempt, delay, jitter))

    def _succeed(self, step: StepId, known: StepState, route: str | None) -> None:
        if self.plan.nodes[step.node].interrupt_after:
            # As with a step that has settled, how often it failed before counts no more: it will not be tried again.
            self._put(step, StepState(StepStatus.HELD_AFTER, known.attempt, route=route))
            self.commands.append(HoldStep(step, is_after=True))
        else:
            self._settle(step, StepState(StepStatus.SUCCEEDED, known.attempt, route=route))

    def _release(self, step: StepId, is_after: bool) -> None:
        known = self.steps.get(step)
        if known is None or known.status is not (StepStatus.HELD_AFTER if is_after else StepStatus.HELD_BEFORE):
            return
        if is_after:
            self._settle(step, StepState(StepStatus.SUCCEEDED, known.attempt, route=known.route))
        else:
            self._run(step, StepState(StepStatus.READY, attempt=1))

    def _fail(self, step: StepId, known: StepState, failure: Failure) -> None:
        retry = self.plan.nodes[step.node].policy.retry
        failures = known.failures + 1
        if failure.retryable and failures < retry.attempts:
            delay = max(retry.delay(failures), failure.after or 0.0)
            again = StepState(StepStatus.READY, known.attempt + 1, failures, known.losses)
            self._run(step, again, delay, retry.jitter)
        else:
            self._give_up(step, known, failure)

    def _lose(self, event: StepLost, known: StepState) -> None:
        step, is_safe = event.step, event.is_safe
        if is_safe and known.losses < MAX_LOSSES:
            self._run(step, StepState(StepStatus.READY, known.attempt + 1, known.failures, known.losses + 1))
            return
        deaths = f"its worker died {known.losses + 1} times"
        reason = deaths if is_safe else "its worker died and it is not safe to repeat"
        how = f" ({event.reason})" if event.reason else ""
        self._give_up(step, known, Failure("worker_lost", f"The step was given up: {reason}{how}."))

    def _give_up(self, step: StepId, known: StepState, failure: Failure, cause: StepId | None = None) -> None:
        """Do what the step's policy says; `cause` is the step inside a loop for which the loop is given up."""
        match self.plan.nodes[step.node].policy.on_error:
            case OnError.CONTINUE:
                self._settle(step, StepState(StepStatus.FAILED, known.attempt))
            case OnError.DEFAULT:
                self.commands.append(UseDefault(step))
                self._settle(step, StepState(StepStatus.SUCCEEDED, known.attempt))
            case OnError.STOP:
                self._stop(step, failure, cause or step)
            case unknown:
                assert_never(unknown)

    def _stop(self, step: StepId, failure: Failure, cause: StepId) -> None:
        """Give up the iteration around the step; a loop that cannot do without it is given up by its own policy."""
        if not step.scope:
            self._finish(ExecutionStatus.FAILED, cause, failure)
            return
        loop, index = step.scope[-1]
        owner = StepId(loop, step.scope[:-1])
        match self.plan.loops[loop].on_error:
            case OnItemError.COLLECT:
                self._close(owner, CollectResult(owner, index, failure=failure))
            case OnItemError.CONTINUE:
                self._close(owner, CollectResult(owner, index))
            case OnItemError.STOP:
                known = self.steps[owner]
                for open_index in _progress(known).open:
                    self._drop((*owner.scope, (loop, open_index)))
                self.commands.append(GiveUpLoop(owner, known.attempt, _progress(known).total, failure))
                self._give_up(owner, known, failure, cause)
            case unknown:
                assert_never(unknown)

    def _iterate(self, step: StepId, known: StepState, total: int) -> None:
        self._open(step, known.attempt, Progress(total))

    def _open(self, loop: StepId, attempt: int, progress: Progress) -> None:
        """Start as many iterations as may run at once, or end the loop when there is nothing left of it."""
        room = self.plan.loops[loop.node].concurrency - len(progress.open)
        following = min(progress.total, progress.following + room)
        started = range(progress.following, following)
        progress = Progress(progress.total, following, (*progress.open, *started))
        if not progress.open:
            self.commands.append(FinishLoop(loop, progress.total))
            self._succeed(loop, StepState(StepStatus.ITERATING, attempt), None)
            return
        self._put(loop, StepState(StepStatus.ITERATING, attempt, progress=progress))
        for index in started:
            for entry in self.plan.entries[loop.node]:
                self._decide(StepId(entry, (*loop.scope, (loop.node, index))))

    def _fold(self, scope: Scope) -> None:
        """Close the iteration if every step of it has settled (rule 3)."""
        loop, index = scope[-1]
        if all(self._is_settled(StepId(node, scope)) for node in self.plan.members[loop]):
            owner = StepId(loop, scope[:-1])
            self._close(owner, CollectResult(owner, index, self._result_of(loop, scope)))

    def _is_settled(self, step: StepId) -> bool:
        known = self.steps.get(step)
        return known is not None and known.is_settled

    def _result_of(self, loop: NodeId, scope: Scope) -> StepId | None:
        returns = (StepId(node, scope) for node in self.plan.loops[loop].returns)
        return next((step for step in returns if self.steps[step].status is StepStatus.SUCCEEDED), None)

    def _close(self, loop: StepId, result: CollectResult) -> None:
        """Drop an iteration from the state, fold its result, and let the loop go on."""
        self._drop((*loop.scope, (loop.node, result.index)))
        self.commands.append(result)
        known = self.steps[loop]
        progress = _progress(known)
        still_open = tuple(index for index in progress.open if index != result.index)
        self._open(loop, known.attempt, Progress(progress.total, progress.following, still_open))

    def _drop(self, scope: Scope) -> None:
        """Forget every step of the iteration, loops inside it included: what is told of them later changes nothing."""
        depth = len(scope)
        for step in [step for step in self.steps if step.scope[:depth] == scope]:
            del self.steps[step]


def _told_while(event: Event) -> Iterable[StepStatus]:
    """The statuses in which a step can be the subject of such an event."""
    match event:
        case StepResumed():
            return (StepStatus.WAITING,)
        case StepFailed():
            return (StepStatus.READY, StepStatus.WAITING)
        case _:
            return (StepStatus.READY,)


def _progress(known: StepState) -> Progress:
    assert known.progress is not None, "a loop with an open iteration knows how far it is"
    return known.progress
