"""Facts that the core is told, past tense. Those about an attempt name it, so that late ones can be told apart."""

from dataclasses import dataclass

from pipelit.engine.core.state import StepId


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed; `after` is how many seconds the other side asked to wait."""

    code: str
    message: str
    retryable: bool = False
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The trigger was accepted; its outputs are stored already."""


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    step: StepId
    attempt: int
    route: str | None = None


@dataclass(frozen=True, slots=True)
class StepIterating:
    """A loop has its list: `total` items are stored under the step."""

    step: StepId
    attempt: int
    total: int


@dataclass(frozen=True, slots=True)
class StepSuspended:
    """The step waits for a time, a person, a child or the outside, and holds no worker."""

    step: StepId
    attempt: int


@dataclass(frozen=True, slots=True)
class StepResumed:
    """What a suspended step waited for has come."""

    step: StepId
    attempt: int
    route: str | None = None


@dataclass(frozen=True, slots=True)
class StepFailed:
    step: StepId
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class StepLost:
    """The worker died while it ran the attempt; `is_safe` says whether the step may run again, `reason` how it died."""

    step: StepId
    attempt: int
    is_safe: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StepReleased:
    """A person let a held step go on; `is_after` says which of its two holds that was."""

    step: StepId
    is_after: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person, a parent or a rule of the workflow stopped the execution; `failure` says which rule."""

    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The execution ran longer than its workflow allows; `failure` says so, `where` is a step that was under way."""

    failure: Failure | None = None
    where: StepId | None = None


Event = (
    Started
    | StepSucceeded
    | StepIterating
    | StepSuspended
    | StepResumed
    | StepFailed
    | StepLost
    | StepReleased
    | Cancelled
    | TimedOut
)
