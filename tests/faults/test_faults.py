"""A short run of the suite: every kind of fault once, on each database. `make faults` is the long one."""

import random
from pathlib import Path

import pytest

from tests.faults import report, storm
from tests.faults.injectors import INJECTORS

pytestmark = pytest.mark.product

SHORT = storm.Size(
    executions=25,
    faults=len(INJECTORS),
    workflows=3,
    depth=1,
    lease_seconds=4.0,
    visibility_timeout=15,
    pauses=(0.0, 1.0),
)


def test_nothing_is_lost_repeated_or_stuck_whatever_dies(database_kind: str, tmp_path: Path) -> None:
    seed = random.randrange(10**6)

    result = storm.run(seed, database_kind, SHORT, tmp_path)

    assert result.verdict.is_clean, report.text(result)
    assert len(result.faults) >= len(INJECTORS) - 2, report.text(result)
    assert result.executions == SHORT.executions
