"""The one place that reads the clock; everything else is given a time or a clock."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present, with its zone (UTC)."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Milliseconds since the epoch: what the working state in Redis is measured in."""
    return time.time_ns() // 1_000_000


def precise_ms() -> float:
    """The same to the microsecond: for what takes less than a millisecond, and adds up all the same."""
    return time.time_ns() // 1_000 / 1_000
