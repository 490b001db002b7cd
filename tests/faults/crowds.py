"""How many executions of a workflow were live at once, as far as that can be seen from outside: never more than may."""

import heapq
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.faults import recovery
from tests.faults.product import Installation
from tests.faults.workflows import Limit

Span = tuple[float, float, str]
"""From when to when (ms since the epoch) an execution was live for certain, and which it is."""


def found(there: Installation, limits: Mapping[str, Limit]) -> Iterator[str]:
    """The executions that were too many."""
    groups: dict[tuple[str, str], list[Span]] = defaultdict(list)
    begun = _begun(there)
    query = (
        "SELECT execution_id, completed_at, slug, CAST(trigger_output AS TEXT) AS given FROM workflow_executions e "
        "JOIN workflows w ON w.id = e.workflow_id"
    )
    for row in there.rows(query):
        limit, began = limits.get(row["slug"]), begun.get(row["execution_id"])
        given = json.loads(row["given"])
        started_with = given.get("body") or given.get("payload") or {}
        if limit is None or began is None or started_with.get("ticket", "").startswith("calm-"):
            continue
        key = started_with["choice"] if limit.is_by_choice else ""
        groups[row["slug"], key].append((began, moment(row["completed_at"]), row["execution_id"]))
    for (slug, key), spans in groups.items():
        for execution_id, others in too_many(spans, limits[slug].most):
            yield f"{slug} {key}: {execution_id} ran beside {', '.join(others)}, and {limits[slug].most} may"


def too_many(spans: Iterable[Span], most: int) -> Iterator[tuple[str, list[str]]]:
    """Those that began while as many were live as may be, each with these others."""
    live: list[tuple[float, str]] = []
    for began, ended, name in sorted(spans):
        while live and live[0][0] <= began:
            heapq.heappop(live)
        if len(live) >= most:
            yield name, [other for _, other in live]
        heapq.heappush(live, (ended, name))


def moment(found: Any) -> float:
    """A time as SQL gives it, in ms since the epoch; text in SQLite, without its zone. Without one it lies ahead."""
    if found is None:
        return math.inf
    at = datetime.fromisoformat(found) if isinstance(found, str) else found
    return float((at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp() * 1000)


def _begun(there: Installation) -> dict[str, float]:
    """When the first step of each execution began that is known to have: by then it had its slot."""
    begun: dict[str, float] = {}
    for beginning in recovery.beginnings(there):
        begun.setdefault(beginning.execution_id, beginning.at_ms)
    return begun
