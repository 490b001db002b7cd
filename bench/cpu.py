"""Processor time by kind of process: it tells more than the clock on a machine that others use as well."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MS_PER_TICK = 1000 / os.sysconf("SC_CLK_TCK")

KINDS = (("valkey", "redis"), ("gunicorn", "web"), ("pipelit-web", "web"), ("steps", "steps"), ("system", "system"))
"""What stands in a command line, and what such a process is called here."""


@contextmanager
def spent(pids: Iterable[int]) -> Iterator[Counter[str]]:
    """Count the milliseconds that processes spend while the block runs, by kind."""
    watched = list(pids)
    before = {pid: _milliseconds(pid) for pid in watched}
    used: Counter[str] = Counter()
    yield used
    for pid in watched:
        used[_kind(pid)] += _milliseconds(pid) - before[pid]


def _milliseconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * MS_PER_TICK


def _kind(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "gone"
    return next((kind for word, kind in KINDS if word in command), "other")
