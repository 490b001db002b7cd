"""How long it took until what a fault had hit went on, read from the events that the executions left in SQL."""

import json
import statistics
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelit.engine.core.state import scope_text
from tests.faults.injectors import Hit
from tests.faults.product import Installation

CALM_MS = 10_000
"""How long the fault before must be over for the next to count as alone."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """An attempt began to run."""

    execution_id: str
    node_id: str
    scope: str
    attempt: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from a fault to the next progress of what it hit.

    `alone` are those of faults that no other fault came shortly before, nor until they were over.
    """

    alone: tuple[float, ...]
    among_others: tuple[float, ...]

    def __str__(self) -> str:
        parts = [("alone", self.alone), ("among others", self.among_others)]
        return "; ".join(f"{name} {_summary(seconds)}" for name, seconds in parts if seconds)


def kept_events(there: Installation) -> dict[str, list[Any]]:
    """What each execution that has ended has told, in the order in which it was numbered."""
    rows = there.rows("SELECT execution_id, events FROM execution_events")
    return {row["execution_id"]: json.loads(zlib.decompress(row["events"])) for row in rows}


def beginnings(there: Installation) -> list[Beginning]:
    """Every attempt that began, in the order of time."""
    found = [
        _beginning(execution_id, event)
        for execution_id, events in kept_events(there).items()
        for event in events
        if event["type"] == "node_status" and event["data"]["status"] == "running"
    ]
    return sorted(found, key=lambda beginning: beginning.at_ms)


def measured(faults: Iterable[tuple[str, Hit]], begun: list[Beginning]) -> Mapping[str, Times]:
    """By kind of fault: until the steps that it hit ran again, or, where it hit none, until any step began."""
    all_faults = list(faults)
    alone: dict[str, list[float]] = defaultdict(list)
    among_others: dict[str, list[float]] = defaultdict(list)
    for kind, hit in all_faults:
        for seconds in _of(kind, hit, begun):
            first, last = hit.at_ms - CALM_MS, hit.at_ms + seconds * 1000
            is_alone = not any(first < other.at_ms < last for _, other in all_faults if other is not hit)
            (alone if is_alone else among_others)[kind].append(seconds)
    return {kind: Times(tuple(alone[kind]), tuple(among_others[kind])) for kind in {*alone, *among_others}}


def _summary(seconds: tuple[float, ...]) -> str:
    return f"p50 {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s ({len(seconds)})"


def _of(kind: str, hit: Hit, begun: list[Beginning]) -> list[float]:
    if not hit.victims:
        # It hit everybody: the first step that begins afterwards shows that it is over.
        over = hit.at_ms + hit.lasted_ms
        after = [beginning.at_ms for beginning in begun if beginning.at_ms > over]
        return [(after[0] - hit.at_ms) / 1000] if after and kind in EVERYBODY else []
    again = []
    for task in hit.victims:
        least = task.attempt if kind == "drop_delivery" else task.attempt + 1
        later = (
            beginning.at_ms
            for beginning in begun
            if (beginning.execution_id, beginning.node_id) == (task.execution_id, task.step.node)
            and beginning.scope == scope_text(task.step.scope)
            and beginning.attempt >= least
            and beginning.at_ms >= hit.at_ms
        )
        # None: it had ended just before, or must not be repeated.
        again += [(at - hit.at_ms) / 1000 for at in [next(later, None)] if at is not None]
    return again


EVERYBODY = frozenset({"kill_redis", "flush"})
"""Faults after which no step of anybody begins until the product has recovered."""


def _beginning(execution_id: str, event: Mapping[str, Any]) -> Beginning:
    at = datetime.fromisoformat(event["timestamp"])
    about = event["data"]
    return Beginning(
        execution_id, about["node_id"], about["scope"], about.get("attempt", 1), round(at.timestamp() * 1000)
    )
