"""What must hold of every execution, as functions of the `advance` under test: the real one, or a mutant of it."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TypeVar

from pipelit.engine.core.commands import CollectResult, Finish, FinishLoop, GiveUpLoop, HoldStep, RunStep, UseDefault
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
from pipelit.engine.core.graph import Join, NodeId, On, OnError, Plan, Scope
from pipelit.engine.core.state import ExecutionStatus, State, StepId, StepState, StepStatus
from tests.engine.core.driver import Advance, Change, Driver
from tests.engine.core.oracle import End, Oracle
from tests.strategies import Case

C = TypeVar("C")
Property = Callable[[Advance, Case], None]

DEATHS = 3
ANYTHING = Failure("anything", "", retryable=True)


def a_step_is_decided_by_its_edges(advance: Advance, case: Case) -> None:
    """Rule 1: it runs once enough edges are decided and one is taken, is skipped if none is, and never lies open."""
    for change in _log(advance, case):
        after = change.after
        for step, known in after.steps.items():
            if step not in change.before.steps and step.node != case.plan.trigger:
                assert _decision(case.plan, after, step) is (known.status is not StepStatus.SKIPPED), step
        if after.status in {ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED}:
            for step in _reachable(case.plan, after):
                assert step in after.steps or _decision(case.plan, after, step) is None, f"{step} was left lying"


def a_step_runs_once(advance: Advance, case: Case) -> None:
    """Rules 1 and 2: no attempt is sent twice, and attempts count up by one."""
    sent: dict[StepId, int] = {}
    for run in Driver(case.plan, case.behaviour, advance).play(case.schedule).runs:
        assert run.attempt == sent.get(run.step, 0) + 1, run
        sent[run.step] = run.attempt


def the_outcome_is_the_oracles(advance: Advance, case: Case) -> None:
    """Rules 1, 3 and 5: whatever the order of delivery, the steps end as plain recursion over the plan says."""
    driver = Driver(case.plan, case.behaviour, advance).play(case.schedule)
    oracle = Oracle.of(case.plan, case.behaviour)
    attempts = {(run.step, run.attempt) for run in driver.runs}

    assert driver.state.status is oracle.status
    assert attempts <= oracle.attempts
    if oracle.status is ExecutionStatus.FAILED:
        finish = driver.commands[-1]
        assert isinstance(finish, Finish)
        assert finish.step is not None
        assert oracle.fates[finish.step].end is End.STOPPED
        return
    at_top = {step: fate for step, fate in oracle.fates.items() if not step.scope}
    assert {step: str(known.status) for step, known in driver.state.steps.items()} == {
        step: str(fate.end) for step, fate in at_top.items()
    }
    del at_top[StepId(case.plan.trigger)]
    assert driver.values == {step: fate.value for step, fate in at_top.items() if fate.end is End.SUCCEEDED}
    assert {attempt for attempt in attempts if oracle.is_certain(attempt[0])} == oracle.certain


def the_outcome_does_not_depend_on_delivery(advance: Advance, case: Case) -> None:
    """Rules 1 to 3: a broker that repeats, delays and reorders gets the same steps and results as a tidy one."""
    tidy = Driver(case.plan, case.behaviour, advance).play(())
    untidy = Driver(case.plan, case.behaviour, advance).play(case.schedule)

    assert untidy.state.status is tidy.state.status
    if tidy.state.status is ExecutionStatus.COMPLETED:
        assert untidy.state.steps == tidy.state.steps
        assert untidy.values == tidy.values


def what_is_not_expected_changes_nothing(advance: Advance, case: Case) -> None:
    """Rule 2: about an attempt that is not current, or in a status that does not wait for it, any event is ignored."""
    for change in _log(advance, case):
        newest = list(change.after.steps)[-1:]
        for step in {*_subject(change.event), *newest}:
            for event in _unexpected(change.after, step):
                unchanged, nothing = advance(case.plan, change.after, event)
                assert unchanged is change.after, event
                assert not nothing


def iterations_run_in_order_and_within_bounds(advance: Advance, case: Case) -> None:
    """Rule 3: items start in order, as many at once as may be, and all of them are folded before their loop ends."""
    begun: dict[StepId, int] = {}
    folded: dict[StepId, set[int]] = {}
    for change in _log(advance, case):
        for step, known in change.after.steps.items():
            if known.status is not StepStatus.ITERATING:
                continue
            assert known.progress is not None
            running, following = known.progress.open, known.progress.following
            room = case.plan.loops[step.node].concurrency
            assert list(running) == sorted(set(running))
            assert len(running) == min(room, len(running) + known.progress.total - following)
            assert following >= begun.get(step, 0), "items do not start twice"
            assert set(range(following)) == folded.get(step, set()) | _folded(change, step) | set(running)
            begun[step] = following
        for command in change.commands:
            if isinstance(command, CollectResult):
                assert command.index not in folded.setdefault(command.loop, set())
                folded[command.loop].add(command.index)
            elif isinstance(command, FinishLoop):
                assert folded.pop(command.loop, set()) == set(range(command.total))
        begins = [run.step for run in _commands(change, RunStep) if run.step.scope]
        for _, steps in groupby(begins, lambda step: (step.scope[:-1], step.scope[-1][0])):
            indexes = [step.scope[-1][1] for step in steps]
            assert indexes == sorted(indexes), "items start in order"


def a_loop_holds_its_frontier_only(advance: Advance, case: Case) -> None:
    """Rule 3: nothing of a folded iteration stays, so that what is kept is the body times the concurrency."""
    limit = sum(_frontier(case.plan, node.id) for node in case.plan.nodes.values() if node.loop is None)
    for change in _log(advance, case):
        steps = change.after.steps
        assert len(steps) <= limit
        for step in steps:
            if step.scope:
                loop, index = step.scope[-1]
                owner = steps.get(StepId(loop, step.scope[:-1]))
                assert owner is not None, step
                assert owner.progress is not None, step
                assert index in owner.progress.open, step


def an_execution_ends_once(advance: Advance, case: Case) -> None:
    """Rule 4: it ends when everything is answered or when it is stopped, says so once, and is deaf afterwards."""
    driver = Driver(case.plan, case.behaviour, advance).play(case.schedule)
    final = driver.state
    finishes = [command for command in driver.commands if isinstance(command, Finish)]

    assert final.status.is_final, f"nothing is left to deliver, and {dict(final.steps)} still waits"
    assert len(finishes) == 1
    assert driver.commands[-1] is finishes[0]
    assert finishes[0].status is final.status
    assert (finishes[0].failure is None) is (final.status is ExecutionStatus.COMPLETED)
    if final.status is ExecutionStatus.COMPLETED:
        assert not list(final.in_flight)
    for change in driver.log:
        assert advance(case.plan, final, change.event)[0] is final
        if isinstance(change.event, Cancelled | TimedOut) and change.is_accepted:
            is_cancel = isinstance(change.event, Cancelled)
            status = ExecutionStatus.CANCELLED if is_cancel else ExecutionStatus.TIMED_OUT
            finish = Finish(status, getattr(change.event, "where", None), change.event.failure)
            assert change.commands == (finish,), "a stop starts nothing, and says why and where"


def a_failure_follows_the_policy(advance: Advance, case: Case) -> None:
    """Rule 5: retried as often and as late as the policy says, then the port, the default value, or the stop."""
    for change in _log(advance, case):
        if not isinstance(change.event, StepFailed | StepLost | StepSuspended) or not change.is_accepted:
            continue
        step, known = change.event.step, change.before.steps[change.event.step]
        if (after := change.after.steps.get(step)) and after.status in {StepStatus.READY, StepStatus.WAITING}:
            is_open = not change.after.status.is_final
            assert after.failures - known.failures == (is_open and isinstance(change.event, StepFailed))
            assert after.losses - known.losses == (is_open and isinstance(change.event, StepLost))
        if isinstance(change.event, StepSuspended):
            continue
        again = _retry(case.plan, change.event, known)
        if again is not None:
            assert change.commands == (again,)
            assert change.after.steps[step].attempt == again.attempt
            continue
        assert step not in {run.step for run in _commands(change, RunStep)}
        assert (UseDefault(step) in change.commands) is (_policy(case.plan, step) is OnError.DEFAULT)
        settled = change.after.steps.get(step)
        if settled is not None and change.after.status is not ExecutionStatus.FAILED:
            default = _policy(case.plan, step) is OnError.DEFAULT
            assert settled.status is (StepStatus.SUCCEEDED if default else StepStatus.FAILED)


def a_stopped_execution_names_the_step_that_failed(advance: Advance, case: Case) -> None:
    """Rule 5: the step whose failure ended the execution is the one that did fail, deep inside a loop too."""
    for change in _log(advance, case):
        for finish in _commands(change, Finish):
            if finish.status is ExecutionStatus.FAILED:
                assert (finish.step,) == _subject(change.event)


def a_loss_is_told_with_its_reason(advance: Advance, case: Case) -> None:
    """Rule 5: whoever hears that a step was given up with its worker hears why, and how that died if it is known."""
    for change in _log(advance, case):
        if not isinstance(change.event, StepLost) or not change.is_accepted:
            continue
        known, how = change.before.steps[change.event.step], f" ({change.event.reason})"
        why = f"died {known.losses + 1} times" if change.event.is_safe else "not safe to repeat"
        for command in change.commands:
            if isinstance(command, Finish | CollectResult | GiveUpLoop) and command.failure is not None:
                assert command.failure.code == "worker_lost"
                assert command.failure.message.endswith(f"{why}{how if change.event.reason else ''}.")


def a_held_step_waits_for_its_release(advance: Advance, case: Case) -> None:
    """Holds: the first attempt of a step comes after the release before it, what follows it after the one behind it."""
    released: set[tuple[StepId, bool]] = set()
    held: list[HoldStep] = []
    for change in _log(advance, case):
        if isinstance(change.event, StepReleased) and change.is_accepted:
            released.add((change.event.step, change.event.is_after))
        held += _commands(change, HoldStep)
        for run in _commands(change, RunStep):
            node = case.plan.nodes[run.step.node]
            assert not node.interrupt_before or (run.step, False) in released, run
        for step, known in change.after.steps.items():
            if known.status is StepStatus.SUCCEEDED and case.plan.nodes[step.node].interrupt_after:
                assert (step, True) in released or _policy(case.plan, step) is OnError.DEFAULT, step
            if known.status in (StepStatus.HELD_BEFORE, StepStatus.HELD_AFTER):
                assert known.failures == known.losses == 0, "what came before an attempt counts until it has succeeded"
    assert len(held) == len(set(held)), "nobody is asked twice"


def advancing_mutates_nothing(advance: Advance, case: Case) -> None:
    """`advance` is a function: the same arguments give the same answer, and are afterwards what they were."""
    for change in _log(advance, case):
        steps = dict(change.before.steps)
        again = advance(case.plan, change.before, change.event)
        assert again == (change.after, change.commands)
        assert change.before.steps == steps


def _log(advance: Advance, case: Case) -> list[Change]:
    return Driver(case.plan, case.behaviour, advance).play(case.schedule).log


def _commands(change: Change, kind: type[C]) -> list[C]:
    return [command for command in change.commands if isinstance(command, kind)]


def _decision(plan: Plan, state: State, step: StepId) -> bool | None:
    """Whether the step's edges say that it runs (True), is skipped (False), or has to wait (None)."""
    taken = undecided = 0
    for edge in plan.edges:
        if edge.target != step.node:
            continue
        source = state.steps.get(StepId(edge.source, step.scope))
        if edge.on is On.BODY:
            taken += 1
        elif source is None or source.status not in {StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED}:
            undecided += 1
        elif edge.on is On.ERROR:
            taken += source.status is StepStatus.FAILED
        elif source.status is StepStatus.SUCCEEDED:
            taken += edge.on is On.SUCCESS or edge.route == source.route
    if taken and (not undecided or plan.nodes[step.node].join is Join.ANY):
        return True
    return None if undecided else False


def _reachable(plan: Plan, state: State) -> Iterator[StepId]:
    """Every step of the top level and of the iterations that are open."""
    scopes: dict[NodeId | None, list[Scope]] = {None: [()]}
    for step, known in state.steps.items():
        if known.progress is not None:
            opened = [(*step.scope, (step.node, index)) for index in known.progress.open]
            scopes.setdefault(step.node, []).extend(opened)
    return (
        StepId(node.id, scope)
        for node in plan.nodes.values()
        if node.id != plan.trigger
        for scope in scopes.get(node.loop, ())
    )


def _subject(event: Event) -> tuple[StepId, ...]:
    return () if isinstance(event, Started | Cancelled | TimedOut) else (event.step,)


def _unexpected(state: State, step: StepId) -> Iterator[Event]:
    known = state.steps.get(step, StepState(StepStatus.SKIPPED, 1))
    heard = {
        StepStatus.READY: {StepSucceeded, StepIterating, StepSuspended, StepFailed, StepLost},
        StepStatus.WAITING: {StepResumed, StepFailed},
    }.get(known.status, set())
    for attempt in (known.attempt - 1, known.attempt, known.attempt + 1):
        events: tuple[Event, ...] = (
            StepSucceeded(step, attempt, "x"),
            StepIterating(step, attempt, 1),
            StepSuspended(step, attempt),
            StepResumed(step, attempt),
            StepFailed(step, attempt, ANYTHING),
            StepLost(step, attempt, is_safe=True),
        )
        yield from (event for event in events if attempt != known.attempt or type(event) not in heard)
    if known.status is not StepStatus.HELD_BEFORE:
        yield StepReleased(step, is_after=False)
    if known.status is not StepStatus.HELD_AFTER:
        yield StepReleased(step, is_after=True)
    if state.status is not ExecutionStatus.PENDING:
        yield Started()


def _folded(change: Change, loop: StepId) -> set[int]:
    return {command.index for command in _commands(change, CollectResult) if command.loop == loop}


def _frontier(plan: Plan, node: NodeId) -> int:
    """The most steps that a node accounts for: itself, and its body as often as it runs at once."""
    if node not in plan.loops:
        return 1
    body = sum(_frontier(plan, inner.id) for inner in plan.nodes.values() if inner.loop == node)
    return 1 + plan.loops[node].concurrency * body


def _policy(plan: Plan, step: StepId) -> OnError:
    return plan.nodes[step.node].policy.on_error


def _retry(plan: Plan, event: StepFailed | StepLost, known: StepState) -> RunStep | None:
    """The attempt that the event must lead to, if any."""
    retry = plan.nodes[event.step.node].policy.retry
    if isinstance(event, StepLost):
        return RunStep(event.step, known.attempt + 1) if event.is_safe and known.losses + 1 < DEATHS else None
    if not event.failure.retryable or known.failures + 1 >= retry.attempts:
        return None
    delay = retry.initial
    for _ in range(known.failures):
        delay = min(delay * retry.factor, retry.ceiling)
    return RunStep(event.step, known.attempt + 1, max(delay, event.failure.after or 0.0), retry.jitter)
