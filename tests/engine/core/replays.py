"""What must hold of `replay`, as functions of the one under test: the real one, or a mutant of it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import cast

from pipelit.engine.core.commands import FinishLoop, GiveUpLoop, HoldStep, RunStep
from pipelit.engine.core.events import (
    Event,
    Started,
    StepFailed,
    StepIterating,
    StepReleased,
    StepResumed,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import Plan
from pipelit.engine.core.replay import Replayed
from pipelit.engine.core.scheduler import advance
from pipelit.engine.core.state import ExecutionStatus, State, StepId, StepStatus
from tests.engine.core.driver import Change, Driver, Value
from tests.strategies import Case

Replay = Callable[[Plan, State, Sequence[Event]], Replayed]
ReplayProperty = Callable[[Replay, Case], None]
Attempt = tuple[StepId, int]
HELD = (StepStatus.HELD_BEFORE, StepStatus.HELD_AFTER)


@dataclass
class Recording:
    """A calm or troubled run with what a database keeps of it: events, the outputs of attempts, the states between."""

    case: Case
    driver: Driver
    events: list[Event] = field(default_factory=list)
    values: dict[Attempt, Value] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)

    @classmethod
    def of(cls, case: Case) -> "Recording":
        driver = Driver(case.plan, case.behaviour, advance)
        recording = cls(case, driver)
        messages = driver.play(case.schedule).log
        values = Driver(case.plan, case.behaviour, advance)
        for change in messages:
            values.tell(change.event)
            if change.is_accepted:
                recording._note(change, values)
        return recording

    def _note(self, change: Change, told: Driver) -> None:
        if not isinstance(change.event, Started):
            self.events.append(change.event)
            self.states += [change.after]
            if isinstance(change.event, StepSucceeded | StepResumed):
                step, attempt = change.event.step, change.event.attempt
                self.values[step, attempt] = f"{step}#{attempt}"
        for command in change.commands:
            if isinstance(command, FinishLoop):
                attempt = change.before.steps[command.loop].attempt
                self.events.append(StepSucceeded(command.loop, attempt))
                self.values[command.loop, attempt] = told.finished[command.loop]
                self.states += [change.after]
            elif isinstance(command, GiveUpLoop):
                # A loop that is given up is not tried again, whatever is true of the step that it is given up for.
                failure = replace(command.failure, retryable=False)
                self.events.append(StepFailed(command.loop, command.attempt, failure))
                self.states += [change.after]


def a_finished_execution_is_replayed_to_its_end(replay: Replay, case: Case) -> None:
    """All that was recorded leads where the execution went, and leaves nothing to be run."""
    recording = Recording.of(case)
    replayed = replay(case.plan, State(), recording.events)

    assert replayed.state.status is recording.driver.state.status
    assert not _left(replayed)
    if replayed.state.status is ExecutionStatus.COMPLETED:
        assert replayed.state.steps == recording.driver.state.steps


def what_was_recorded_runs_no_more_and_the_rest_does(replay: Replay, case: Case) -> None:
    """From any part of the record on, exactly the rest is run, and the end is that of the calm run."""
    recording = Recording.of(case)
    for cut in _cuts(recording):
        known = recording.events[:cut]
        replayed = replay(case.plan, State(), known)
        driver = continued(recording, replayed)
        driver.play(())
        rerun = _left(replayed) | {(run.step, run.attempt) for run in driver.runs}
        assert not rerun & _ended(known), "what has ended runs again"
        assert driver.state.status is recording.driver.state.status
        if driver.state.status is ExecutionStatus.COMPLETED:
            assert driver.state.steps == recording.driver.state.steps
            assert driver.values == recording.driver.values


def the_order_of_the_record_does_not_matter(replay: Replay, case: Case) -> None:
    """Rows that come in another order lead to the same state."""
    recording = Recording.of(case)
    if recording.driver.state.status is not ExecutionStatus.COMPLETED:
        return
    events = list(recording.events)
    random.Random(len(case.schedule)).shuffle(events)
    assert replay(case.plan, State(), events).state.steps == recording.driver.state.steps


def a_state_that_is_behind_catches_up(replay: Replay, case: Case) -> None:
    """Told to an older state, the record leads where it leads from nothing; one that knows all of it hears nothing."""
    recording = Recording.of(case)
    for cut in _cuts(recording):
        known = recording.events[:cut]
        whole = replay(case.plan, State(), known)
        older = replay(case.plan, State(), known[: cut // 2]).state
        caught_up = replay(case.plan, older, known).state
        assert caught_up.status is whole.state.status
        # Of the step that an execution failed with, the state does not say more than that it had been reached.
        assert caught_up == whole.state or caught_up.status is ExecutionStatus.FAILED
        if cut:
            assert not replay(case.plan, recording.states[cut - 1], known).heard, "it is told what it has done"


def a_number_is_given_once(replay: Replay, case: Case) -> None:
    """However much of the record is missing, no attempt is sent under a number that was recorded."""
    recording = Recording.of(case)
    for cut in _cuts(recording):
        known = [event for position, event in enumerate(recording.events[:cut]) if position % 3 != 1]
        replayed = replay(case.plan, State(), known)
        for step, attempt in _left(replayed):
            assert replayed.state.steps[step].attempt == attempt
            numbers = [event.attempt for event in known if not isinstance(event, StepReleased) and event.step == step]
            assert all(attempt > number for number in numbers), step


def nobody_is_asked_again(replay: Replay, case: Case) -> None:
    """A hold is asked about if it stands, and only then."""
    recording = Recording.of(case)
    for cut in _cuts(recording):
        replayed = replay(case.plan, State(), recording.events[:cut])
        asked = {
            (command.step, HELD[command.is_after])
            for heard in replayed.heard
            for command in heard.commands
            if isinstance(command, HoldStep)
        }
        is_over = replayed.state.status.is_final
        held = {(step, known.status) for step, known in replayed.state.steps.items() if known.status in HELD}
        assert asked == (set() if is_over else held)


def who_has_answered_is_not_asked(replay: Replay, case: Case) -> None:
    """Where every hold has been released before, nobody is asked, and the end is the same."""
    past = cast("FunctionType", replay).__globals__["advance_past"]
    asked = Driver(case.plan, case.behaviour, advance).play(())
    unasked = Driver(case.plan, case.behaviour, lambda plan, state, event: past(plan, state, event, lambda _: True))
    unasked.play(())

    assert not any(isinstance(command, HoldStep) for command in unasked.commands)
    assert unasked.state.status is asked.state.status
    if unasked.state.status is ExecutionStatus.COMPLETED:
        assert unasked.state.steps == asked.state.steps
        assert unasked.values == asked.values


def _cuts(recording: Recording) -> list[int]:
    """Where the record may break off: everywhere in a short one, here and there in a long one."""
    length = len(recording.events)
    return sorted({length * part // 8 for part in range(9)})


def _left(replayed: Replayed) -> set[Attempt]:
    """The attempts that are to be run."""
    return {
        (command.step, command.attempt)
        for heard in replayed.heard
        for command in heard.commands
        if isinstance(command, RunStep)
    }


def _ended(events: Sequence[Event]) -> set[Attempt]:
    return {
        (event.step, event.attempt)
        for event in events
        if not isinstance(event, StepReleased | StepIterating | StepSuspended)
    }


def continued(recording: Recording, replayed: Replayed) -> Driver:
    """A driver that goes on where the replay ended, as somebody does who has nothing but the record."""
    driver = Driver(recording.case.plan, recording.case.behaviour, advance, replayed.state, bag=[])
    for heard in replayed.heard:
        driver.store(heard.event, recording.values)
        for command in heard.commands:
            driver.carry_out(command)
    driver.values = {step: value for step, value in driver.values.items() if step in driver.state.steps}
    waiting = {step for step, known in driver.state.steps.items() if known.status is StepStatus.WAITING}
    driver.bag = [
        message for message in driver.bag if not isinstance(message, StepSuspended) or message.step in waiting
    ]
    return driver
