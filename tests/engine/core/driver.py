"""A broker, its workers and the coordinator in one place and in memory: plays a plan in any order of delivery."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pipelit.engine.core.commands import CollectResult, Command, Finish, FinishLoop, HoldStep, RunStep, UseDefault
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
from pipelit.engine.core.graph import NodeId, Plan
from pipelit.engine.core.state import State, StepId

Advance = Callable[[Plan, State, Event], tuple[State, tuple[Command, ...]]]
Value = None | str | list["Value"]

BUDGET = 6_000
"""Events after which a run counts as endless; the largest plans that are drawn need a tenth of it."""

STOPPED = Failure("stopped", "by a rule")

FAILED_ITEM = "failed"
"""The value of an iteration that failed, whichever of its steps did."""


@dataclass(frozen=True, slots=True)
class Succeed:
    route: str | None = None


@dataclass(frozen=True, slots=True)
class Iterate:
    total: int


@dataclass(frozen=True, slots=True)
class Fail:
    retryable: bool = False
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Lose:
    """The worker dies with the attempt."""

    is_safe: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """The step is suspended; `then` is what comes of it."""

    then: Succeed | Fail = Succeed()


Answer = Succeed | Iterate | Fail | Lose | Wait
Behaviour = Mapping[NodeId, tuple[Answer, ...]]


def answer_of(plan: Plan, behaviour: Behaviour, step: StepId, attempt: int) -> Answer:
    """What the attempt comes to: the node's answers in turn, beginning elsewhere in every iteration."""
    ordinary: Answer = Iterate(2) if step.node in plan.loops else Succeed()
    answers = behaviour.get(step.node, (ordinary,))
    return answers[(attempt - 1 + sum(index for _, index in step.scope)) % len(answers)]


class Kind(StrEnum):
    """What a delivery does: all but the last two leave what an execution comes to as it is."""

    DELIVER = "deliver"
    DEFER = "defer"
    DUPLICATE = "duplicate"
    REPEAT = "repeat"
    CONTRADICT = "contradict"
    CANCEL = "cancel"
    TIME_OUT = "time_out"


@dataclass(frozen=True, slots=True)
class Move:
    """One act of the broker; `pick` chooses what it is done to."""

    kind: Kind = Kind.DELIVER
    pick: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One `advance` with all that went in and came out."""

    before: State
    event: Event
    after: State
    commands: tuple[Command, ...]

    @property
    def is_accepted(self) -> bool:
        return self.after is not self.before


Message = Started | RunStep | HoldStep | StepSuspended
"""What somebody will react to: the trigger, a worker, a person, or whatever a suspended step waits for."""


@dataclass(slots=True)
class Driver:
    """Tells the core what happens and carries out what it commands; `log` has everything that was said."""

    plan: Plan
    behaviour: Behaviour
    advance: Advance
    state: State = field(default_factory=State)
    bag: list[Message] = field(default_factory=lambda: [Started()])
    log: list[Change] = field(default_factory=list)
    values: dict[StepId, Value] = field(default_factory=dict)
    items: dict[StepId, dict[int, Value]] = field(default_factory=dict)
    finished: dict[StepId, Value] = field(default_factory=dict)

    @property
    def commands(self) -> list[Command]:
        return [command for change in self.log for command in change.commands]

    @property
    def runs(self) -> list[RunStep]:
        return [command for command in self.commands if isinstance(command, RunStep)]

    def play(self, schedule: Iterable[Move]) -> "Driver":
        """Deliver as the schedule says, and after its end in the order of sending until nothing is left."""
        for move in schedule:
            self._move(move)
        while self.bag and not self.state.status.is_final:
            self._deliver(0)
        return self

    def tell(self, event: Event) -> Change:
        """Advance by one event, and do what a coordinator does with the outcome."""
        assert len(self.log) < BUDGET, "the execution does not end"
        before = State(self.state.status, MappingProxyType(dict(self.state.steps)))
        self.state, commands = self.advance(self.plan, before, event)
        change = Change(before, event, self.state, commands)
        self.log.append(change)
        if change.is_accepted:
            self.store(event)
            for command in commands:
                self.carry_out(command)
            self.values = {step: value for step, value in self.values.items() if step in self.state.steps}
        return change

    def reply(self, message: Message) -> Event:
        """The event that a delivered message leads to."""
        match message:
            case Started():
                return message
            case HoldStep(step, is_after):
                return StepReleased(step, is_after)
            case StepSuspended(step, attempt):
                return resumed(step, attempt, answer_of(self.plan, self.behaviour, step, attempt))
            case RunStep(step, attempt):
                return worked(step, attempt, answer_of(self.plan, self.behaviour, step, attempt))

    def _move(self, move: Move) -> None:
        match move.kind:
            case Kind.CANCEL:
                self.tell(Cancelled(STOPPED))
            case Kind.TIME_OUT:
                self.tell(TimedOut(STOPPED, next(self.state.in_flight, None)))
            case Kind.REPEAT if self.log:
                self.tell(self.log[move.pick % len(self.log)].event)
            case Kind.CONTRADICT if self.log:
                contrary = contradiction(self.log[move.pick % len(self.log)].event)
                if contrary is not None:
                    self.tell(contrary)
            case Kind.DEFER if self.bag:
                self.bag.append(self.bag.pop(move.pick % len(self.bag)))
            case Kind.DUPLICATE if self.bag:
                self.bag.append(self.bag[move.pick % len(self.bag)])
            case Kind.DELIVER if self.bag:
                self._deliver(move.pick % len(self.bag))
            case _:
                return

    def _deliver(self, position: int) -> None:
        self.tell(self.reply(self.bag.pop(position)))

    def store(self, event: Event, recorded: Mapping[tuple[StepId, int], Value] = MappingProxyType({})) -> None:
        """Keep what an attempt left: what was recorded of it, or what it says itself."""
        match event:
            case StepSucceeded(step, attempt) | StepResumed(step, attempt):
                self.values[step] = recorded.get((step, attempt), f"{step}#{attempt}")
            case StepSuspended():
                self.bag.append(event)
            case _:
                pass

    def carry_out(self, command: Command) -> None:
        """Do what is commanded: put messages into the bag, values in their place."""
        match command:
            case RunStep() | HoldStep():
                self.bag.append(command)
            case UseDefault(step):
                self.values[step] = f"{step} default"
            case CollectResult(loop, index, source, failure):
                collected = self.items.setdefault(loop, {})
                assert index not in collected, f"{loop}:{index} is collected twice"
                collected[index] = FAILED_ITEM if failure else self.values.get(source) if source else None
            case FinishLoop(loop, total):
                collected = self.items.pop(loop, {})
                assert collected.keys() == set(range(total)), f"{loop} is finished without all its items"
                self.values[loop] = self.finished[loop] = [collected[index] for index in range(total)]
            case Finish():
                pass


def worked(step: StepId, attempt: int, answer: Answer) -> Event:
    """What a worker reports of the attempt, or what is found when it died."""
    match answer:
        case Succeed(route):
            return StepSucceeded(step, attempt, route)
        case Iterate(total):
            return StepIterating(step, attempt, total)
        case Fail():
            return failed(step, attempt, answer)
        case Lose(is_safe):
            # Of the deaths in every second node somebody knows how they came.
            return StepLost(step, attempt, is_safe, f"signal {attempt}" if ord(step.node[-1]) % 2 else "")
        case Wait():
            return StepSuspended(step, attempt)


def resumed(step: StepId, attempt: int, answer: Answer) -> Event:
    assert isinstance(answer, Wait), "only a step that waits is suspended"
    if isinstance(answer.then, Succeed):
        return StepResumed(step, attempt, answer.then.route)
    return failed(step, attempt, answer.then)


def failed(step: StepId, attempt: int, answer: Fail) -> StepFailed:
    return StepFailed(step, attempt, Failure("failed", str(step), answer.retryable, answer.after))


def contradiction(event: Event) -> Event | None:
    """Another end of an attempt that has ended: a worker taken for dead that comes back with its own answer."""
    match event:
        case StepSucceeded(step, attempt) | StepIterating(step, attempt) | StepResumed(step, attempt):
            return StepFailed(step, attempt, Failure("late", str(step), retryable=True))
        case StepFailed(step, attempt) | StepLost(step, attempt):
            return StepSucceeded(step, attempt, "x")
        case _:
            return None
