"""Intents that the core returns; the coordinator carries them out in the one atomic transition."""

from dataclasses import dataclass

from pipelit.engine.core.events import Failure
from pipelit.engine.core.state import ExecutionStatus, StepId


@dataclass(frozen=True, slots=True)
class RunStep:
    """Send the step's attempt to its lane, `delay` seconds from now, give or take the fraction `jitter`."""

    step: StepId
    attempt: int
    delay: float = 0.0
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class HoldStep:
    """Ask a person: the step is held before or after its run."""

    step: StepId
    is_after: bool


@dataclass(frozen=True, slots=True)
class SkipStep:
    """Nothing leads to the step, so it does not run; the state may already have forgotten it with its iteration."""

    step: StepId


@dataclass(frozen=True, slots=True)
class UseDefault:
    """The step failed for good, and its policy's default value stands in for its output."""

    step: StepId


@dataclass(frozen=True, slots=True)
class CollectResult:
    """Fold one iteration into its loop's results: the output of `source`, or `failure`, or null if neither is there."""

    loop: StepId
    index: int
    source: StepId | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class FinishLoop:
    """All iterations are folded: the `total` results, in the order of the items, become the loop's output."""

    loop: StepId
    total: int


@dataclass(frozen=True, slots=True)
class GiveUpLoop:
    """An iteration failed and the loop cannot do without it: of its `total` items nothing is of interest any more."""

    loop: StepId
    attempt: int
    total: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Finish:
    """The execution is over; `step` is where it failed, if it did."""

    status: ExecutionStatus
    step: StepId | None = None
    failure: Failure | None = None


Command = RunStep | HoldStep | SkipStep | UseDefault | CollectResult | FinishLoop | GiveUpLoop | Finish
