"""A run's result as a table for people."""

from collections import Counter as Tally
from collections.abc import Iterator

from tests.faults.storm import Result


def text(result: Result) -> str:
    """What happened, what was found, and how fast things recovered."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    verdict = result.verdict
    yield f"seed {result.seed}, {result.database}, {result.seconds:.0f} s"
    yield f"executions   {result.executions:>5}   (and {result.calm_executions} calm ones)"
    yield f"approvals    {result.approvals:>5}"
    yield f"cancelled    {result.cancelled:>5}"
    yield f"retried      {result.retried:>5}"
    yield f"not let run  {result.stopped:>5}   (dropped, or superseded)"
    yield f"faults       {len(result.faults):>5}"
    for kind, count in sorted(Tally(kind for kind, _ in result.faults).items()):
        yield f"  {kind:<20} {count:>4}   {_recovery(result, kind)}".rstrip()
    if result.passed_over:
        yield f"passed over  {len(result.passed_over):>5}   ({', '.join(sorted(set(result.passed_over)))})"
    if result.unanswered:
        yield f"unanswered   {result.unanswered:>5}   (never said to be accepted)"
    for kind, found in verdict.by_kind().items():
        yield f"{kind:<12} {len(found):>5}"
    if not verdict.is_clean:
        yield str(verdict)


def _recovery(result: Result, kind: str) -> str:
    times = result.times.get(kind)
    return "" if times is None else f"going on after: {times}"
