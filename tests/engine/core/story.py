"""An execution told event by event, and short names for the commands that follow."""

from dataclasses import dataclass, field

from pipelit.engine.core.commands import CollectResult, Command, Finish, GiveUpLoop, RunStep, SkipStep
from pipelit.engine.core.events import Event, Failure, Started, StepFailed, StepIterating, StepLost, StepSucceeded
from pipelit.engine.core.graph import FailurePolicy, OnError, Plan, Retry
from pipelit.engine.core.scheduler import advance
from pipelit.engine.core.state import ExecutionStatus, State, StepId
from tests.graphs import graph

BROKEN = Failure("broken", "It does not work.")
BUSY = Failure("busy", "Try again.", retryable=True)
COMPLETED = Finish(ExecutionStatus.COMPLETED)
CONTINUE = FailurePolicy(on_error=OnError.CONTINUE)


@dataclass(slots=True)
class Story:
    """An execution told event by event; every method answers with the commands that follow from its event.

    What is only to be told, and changes nothing else, is left out of the answer and added to `news`.
    """

    plan: Plan
    state: State = field(default_factory=State)
    news: list[SkipStep | GiveUpLoop] = field(default_factory=list)

    def tell(self, event: Event) -> list[Command]:
        self.state, commands = advance(self.plan, self.state, event)
        self.news += [command for command in commands if isinstance(command, SkipStep | GiveUpLoop)]
        return [command for command in commands if not isinstance(command, SkipStep | GiveUpLoop)]

    @property
    def skipped(self) -> list[str]:
        """Steps that were said to be skipped."""
        return [str(command.step) for command in self.news if isinstance(command, SkipStep)]

    def start(self) -> list[Command]:
        return self.tell(Started())

    def succeed(self, step: str, route: str | None = None) -> list[Command]:
        return self.tell(StepSucceeded(*self.attempt(step), route))

    def iterate(self, step: str, total: int) -> list[Command]:
        return self.tell(StepIterating(*self.attempt(step), total))

    def fail(self, step: str, failure: Failure = BROKEN) -> list[Command]:
        return self.tell(StepFailed(*self.attempt(step), failure))

    def lose(self, step: str, is_safe: bool = True) -> list[Command]:
        return self.tell(StepLost(*self.attempt(step), is_safe))

    def attempt(self, step: str) -> tuple[StepId, int]:
        return StepId.parse(step), self.state.steps[StepId.parse(step)].attempt

    def status(self, step: str) -> str:
        return str(self.state.steps[StepId.parse(step)].status)


def started(text: str, **changes: dict[str, object]) -> Story:
    story = Story(graph(text, **changes))
    story.start()
    return story


def run(step: str, attempt: int = 1, delay: float = 0.0, jitter: float = 0.0) -> RunStep:
    return RunStep(StepId.parse(step), attempt, delay, jitter)


def collect(loop: str, index: int, source: str | None = None, failure: Failure | None = None) -> CollectResult:
    return CollectResult(StepId.parse(loop), index, StepId.parse(source) if source else None, failure)


def on_error(policy: OnError, attempts: int = 1) -> dict[str, object]:
    return {"policy": FailurePolicy(Retry(attempts, jitter=0.0), policy)}
