"""How long it took until what a fault had hit went on, read from the events that the executions left in SQL."""

import json
import statistics
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelit.engine.core.state import scope_text
from tests.faults.injectors import Hit
from tests.faults.product import Installation


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
    """Seconds from a fault to the next progress of what it hit."""

    seconds: tuple[float, ...]

    @property
    def p50(self) -> float:
        return statistics.median(self.seconds)

    @property
    def longest(self) -> float:
        return max(self.seconds)


def beginnings(there: Installation) -> list[Beginning]:
    """Every attempt that began, in the order of time."""
    found = [
        _beginning(row["execution_id"], event)
        for row in there.rows("SELECT execution_id, events FROM execution_events")
        for event in json.loads(zlib.decompress(row["events"]))
        if event["type"] == "node_status" and event["data"]["status"] == "running"
    ]
    return sorted(found, key=lambda beginning: beginning.at_ms)


def measured(faults: Iterable[tuple[str, Hit]], begun: list[Beginning]) -> Mapping[str, Times]:
    """By kind of fault: until the steps that it hit ran again, or, where it hit none, until any step began."""
    seconds: dict[str, list[float]] = {}
    for kind, hit in faults:
        seconds.setdefault(kind, []).extend(_of(kind, hit, begun))
    return {kind: Times(tuple(found)) for kind, found in seconds.items() if found}


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
