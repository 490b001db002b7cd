"""`replay`: an execution from what was recorded of it. It tells `advance` what is known, and runs nothing."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipelit.engine.core.commands import Command, HoldStep, RunStep
from pipelit.engine.core.events import (
    Event,
    Started,
    StepFailed,
    StepIterating,
    StepLost,
    StepReleased,
    StepResumed,
    StepSucceeded,
    StepSuspended,
)
from pipelit.engine.core.graph import Plan
from pipelit.engine.core.scheduler import advance
from pipelit.engine.core.state import ExecutionStatus, State, StepId, StepStatus

Key = tuple[StepId, int]
"""What an event answers: an attempt, or (0 and -1) the hold before or behind a step."""

ENDS = (StepSucceeded, StepResumed, StepFailed, StepLost)


@dataclass(frozen=True, slots=True)
class Heard:
    """A recorded event that changed something, and what of its commands is still to be carried out."""

    event: Event
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Where the recorded events lead. Nothing was heard if the state knew of all of them."""

    state: State
    heard: tuple[Heard, ...]


def replay(plan: Plan, state: State, recorded: Sequence[Event]) -> Replayed:
    """Tell a state what was recorded, each event as soon as it is expected; what never is changes nothing.

    Of what was commanded on the way there remain the steps and holds that nothing recorded answers, and everything
    about results. A step that is to run gets a number above all that were recorded of it.
    """
    telling = _Telling(plan, state)
    if state.status is ExecutionStatus.PENDING:
        telling.tell(Started())
    for event in _condensed(recorded):
        telling.tell(event)
    return _numbered_above(telling.state, telling.heard, recorded)


def given_up(plan: Plan, replayed: Replayed, attempts: Iterable[tuple[StepId, int]]) -> Replayed:
    """The same, without attempts that may have run already and are not safe to repeat: they count as lost."""
    state, heard = replayed.state, list(replayed.heard)
    for step, attempt in attempts:
        event = StepLost(step, attempt, is_safe=False)
        after, commands = advance(plan, state, event)
        if after is not state:
            state = after
            heard.append(Heard(event, commands))
    kept = (Heard(each.event, tuple(c for c in each.commands if _stands(state, c))) for each in heard)
    return Replayed(state, tuple(kept))


def advance_past(
    plan: Plan, state: State, event: Event, is_released: Callable[[HoldStep], bool]
) -> tuple[State, tuple[Command, ...]]:
    """As `advance`; the holds that somebody has released before are let go at once, and nobody is asked again."""
    after, commands = advance(plan, state, event)
    kept: list[Command] = []
    following = deque(commands)
    while following:
        command = following.popleft()
        if isinstance(command, HoldStep) and is_released(command):
            after, more = advance(plan, after, StepReleased(command.step, command.is_after))
            following.extend(more)
        else:
            kept.append(command)
    return after, tuple(kept)


class _Telling:
    """The state on its way; `early` has what was recorded of steps that are not there yet."""

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        self.state = state
        self.heard: list[Heard] = []
        self.early: dict[Key, Event] = {}

    def tell(self, event: Event) -> None:
        expected = [event]
        while expected:
            current = self._worded(expected.pop())
            after, commands = advance(self.plan, self.state, current)
            if after is self.state:
                self.early[_answered(current)] = current
                continue
            self.state = after
            self.heard.append(Heard(current, commands))
            expected += reversed(list(self._awaited(commands)))

    def _worded(self, event: Event) -> Event:
        """The end of an attempt as it is told of a step that waits, or of one that does not: a record knows no more."""
        match event:
            case StepSucceeded(step, attempt, route) | StepResumed(step, attempt, route):
                known = self.state.steps.get(step)
                is_waiting = known is not None and known.status is StepStatus.WAITING
                return (StepResumed if is_waiting else StepSucceeded)(step, attempt, route)
            case _:
                return event

    def _awaited(self, commands: Iterable[Command]) -> Iterator[Event]:
        """What was recorded earlier than it could be told, and is expected now."""
        for command in commands:
            asked = _asked(command)
            if asked is not None and asked in self.early:
                yield self.early.pop(asked)


def _condensed(recorded: Sequence[Event]) -> Iterator[Event]:
    """Of an attempt that has ended only its end, as if it had not waited, or looped, before."""
    ended = {_answered(event) for event in recorded if isinstance(event, ENDS)}
    for event in recorded:
        match event:
            case StepIterating() | StepSuspended() if _answered(event) in ended:
                continue
            case _:
                yield event


def _answered(event: Event) -> Key:
    match event:
        case StepReleased(step, is_after):
            return step, -is_after
        case (
            StepSucceeded(step, attempt)
            | StepIterating(step, attempt)
            | StepSuspended(step, attempt)
            | StepResumed(step, attempt)
            | StepFailed(step, attempt)
            | StepLost(step, attempt)
        ):
            return step, attempt
        case unknown:
            raise TypeError(f"{type(unknown).__name__} is not recorded of a step")


def _asked(command: Command) -> Key | None:
    match command:
        case RunStep(step, attempt):
            return step, attempt
        case HoldStep(step, is_after):
            return step, -is_after
        case _:
            return None


def _numbered_above(state: State, heard: Sequence[Heard], recorded: Sequence[Event]) -> Replayed:
    """The steps that are to run as attempts that nothing recorded can be taken for; answered commands left out."""
    last: dict[StepId, int] = {}
    for event in recorded:
        if not isinstance(event, StepReleased):
            step, attempt = _answered(event)
            last[step] = max(attempt, last.get(step, 0))
    steps = dict(state.steps)
    kept: list[Heard] = []
    for each in heard:
        commands: list[Command] = []
        for command in each.commands:
            if isinstance(command, RunStep) and _stands(state, command):
                attempt = max(command.attempt, last.get(command.step, 0) + 1)
                steps[command.step] = replace(steps[command.step], attempt=attempt)
                commands.append(replace(command, attempt=attempt))
            elif _stands(state, command):
                commands.append(command)
        kept.append(Heard(each.event, tuple(commands)))
    return Replayed(state.replace(state.status, steps), tuple(kept))


def _stands(state: State, command: Command) -> bool:
    """Whether a command is still to be carried out in the end."""
    match command:
        case RunStep(step, attempt):
            known = state.steps.get(step)
            wanted = known is not None and known.status is StepStatus.READY and known.attempt == attempt
            return wanted and not state.status.is_final
        case HoldStep(step, is_after):
            known = state.steps.get(step)
            held = StepStatus.HELD_AFTER if is_after else StepStatus.HELD_BEFORE
            return known is not None and known.status is held and not state.status.is_final
        case _:
            return True
