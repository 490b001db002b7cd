"""Where the time of an attempt goes: the moments between which its kinds of time lie."""

import json
from dataclasses import dataclass
from typing import NamedTuple, Self

from pipelit import clock
from pipelit.engine.narrator import Report


@dataclass(slots=True)
class Stopwatch:
    """One attempt's moments, in ms since the epoch: due, claimed, its node begun, its node back.

    What lies between them is queued, resolve and run; commit ends with the transition, so that the times of a chain
    add up to its wall clock by construction.
    """

    due_ms: float
    started_ms: float
    began_ms: float | None = None

    def begin(self) -> None:
        """The inputs are resolved: the node runs from now on."""
        self.began_ms = clock.precise_ms()

    def report(self, given: str | None = None) -> Report:
        """What to report of an attempt whose node has returned, or raised, just now; `given` is its input."""
        returned = clock.precise_ms()
        began = returned if self.began_ms is None else self.began_ms
        return Report(
            given,
            queued_ms=_between(self.due_ms, self.started_ms),
            started_ms=self.started_ms,
            resolve_ms=_between(self.started_ms, began),
            run_ms=_between(began, returned),
            returned_ms=returned,
        )

    def __str__(self) -> str:
        """As a claim carries it, for whoever has to report that the attempt was lost."""
        return f"{self.due_ms} {self.started_ms}"


class Due(NamedTuple):
    """When an attempt is due, as the working state keeps it of one that was put off or sent again.

    `failed_ms` is when the attempt before it failed, and `waited_ms` how long that one had waited until then.
    """

    attempt: int
    due_ms: float
    failed_ms: float | None = None
    waited_ms: float = 0.0

    def text(self) -> str:
        return json.dumps(self)

    @classmethod
    def of(cls, attempt: int, text: str | None) -> Self | None:
        """Read what `text` wrote, if it is about this attempt."""
        kept = None if text is None else cls(*json.loads(text))
        return kept if kept is not None and kept.attempt == attempt else None


def report_of_lost(claim: str | None, at: float) -> Report:
    """What is known of an attempt whose process is gone: its claim, which ends with the moments of its stopwatch.

    All the time from its claim on counts as run: nobody knows how far it came.
    """
    words = (claim or "").split(" ")
    if len(words) != CLAIM_WORDS:
        return Report()
    due, started = float(words[-2]), float(words[-1])
    run = _between(started, at)
    return Report(queued_ms=_between(due, started), started_ms=started, resolve_ms=0.0, run_ms=run, returned_ms=at)


CLAIM_WORDS = 5
"""Attempt, owner, token, and the two moments that are known when a step is claimed."""


def _between(first: float, second: float) -> float:
    return max(0.0, round(second - first, 3))
