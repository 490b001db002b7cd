"""The end of an execution that took longer than its workflow allows: what it says, and at which step it was."""

from pipelit.engine.core.events import Failure, TimedOut
from pipelit.engine.core.state import State, StepId, StepStatus
from pipelit.errors import ExecutionTimedOut

NAMED = 5
"""How many steps the message names."""


def event(state: State, seconds: int | None) -> TimedOut:
    """What an execution is told whose time is over; `seconds` is how long it might have taken, if that is known."""
    # A loop is at a step of its body, which says more; it is named when nothing else is left.
    steps = [step for step in state.in_flight if state.steps[step].status is not StepStatus.ITERATING]
    named = steps or list(state.in_flight)
    allowed = "" if seconds is None else f" ({seconds} s)"
    message = f"The execution took longer than its workflow allows{allowed}.{_where(named)}"
    return TimedOut(Failure(ExecutionTimedOut.code, message), named[0] if named else None)


def _where(steps: list[StepId]) -> str:
    if not steps:
        return ""
    more = f" and {len(steps) - NAMED} more" if len(steps) > NAMED else ""
    return f" Not done by then: {', '.join(str(step) for step in steps[:NAMED])}{more}."
