"""The processes that a node has started, and how they end with it. Only Linux tells which they are."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36
ROUNDS = 10
"""How often one looks again for what was started meanwhile."""


def started(pid: int) -> str:
    """When a process started, in ticks since boot; '' if there is none."""
    fields = stat(pid)
    return fields[19] if fields else ""


def running_since(pid: int) -> str:
    """The same of a process that runs: one whose end nobody has taken note of yet is still in the list, as a zombie."""
    fields = stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def is_child(pid: int) -> bool:
    """Whether a process is one that this one has started, and lives."""
    fields = stat(pid)
    return not PROC.is_dir() or (bool(fields) and fields[0] != "Z" and int(fields[1]) == os.getpid())


def adopt_orphans() -> None:
    """Stay the ancestor of everything that is started from here, also of what is left by its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> set[int]:
    """Every process that a process has started, and those that these have."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir() if PROC.is_dir() else ():
        if folder.name.isdigit() and (fields := stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found: set[int] = set()
    pending = [pid]
    while pending:
        following = children.get(pending.pop(), [])
        found.update(following)
        pending += following
    return found


def ticks_ago(seconds: float) -> int:
    """A time in the past in the unit of `started`."""
    try:
        up = float((PROC / "uptime").read_text().split()[0])
    except OSError:
        return 0
    return int((up - seconds) * os.sysconf("SC_CLK_TCK"))


def end_descendants(pid: int, since_ticks: int = 0) -> set[int]:
    """Kill what a process has started, as far as that is not older than `since_ticks`; returns which those were.

    They are stopped first, so that they start nothing more while the others are looked for.
    """
    stopped: set[int] = set()
    for _ in range(ROUNDS):
        found = {child for child in descendants(pid) - stopped if int(started(child) or -1) >= since_ticks}
        if not found:
            break
        _signal(found, signal.SIGSTOP)
        stopped |= found
    _signal(stopped, signal.SIGKILL)
    return stopped


def reap(pids: Iterable[int]) -> None:
    """Take note of the end of killed processes: children of this one, and theirs, which become ours when these end."""
    left = set(pids)
    for _ in range(ROUNDS):
        for pid in sorted(left):
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                if started(pid):
                    continue
            left.discard(pid)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stat(pid: int) -> list[str]:
    """The fields of proc(5)'s stat from the third on; none if there is no such process."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
