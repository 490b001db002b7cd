"""How long a step is put off before its next attempt, and how long it may stand in a queue unasked."""

import math
import random

from pipelit.engine.core.commands import RunStep

UNCLAIMED_MS = 30_000
"""How long a sent step may stay unclaimed before somebody asks whether its message is still there."""

LONGEST_DELAY = 86_400.0
"""Seconds; the other side may ask for more patience than that, and does not get it."""


def delay_of(command: RunStep, at: float) -> float:
    """Milliseconds from `at` until the attempt is due, which is at a whole one; 0 if it may run at once."""
    if not command.delay:
        return 0.0
    wanted = min(command.delay, LONGEST_DELAY)
    spread = wanted * command.jitter
    # Not for secrets: retries are only kept from falling into step with one another.
    delay = max(0.0, wanted + random.uniform(-spread, spread))  # noqa: S311
    return math.ceil(at + delay * 1000) - at
