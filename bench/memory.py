"""What processes weigh, one by one and together."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAMES = (
    ("supervisor", "supervisor"),
    ("valkey-server", "server"),
    ("redis-server", "server"),
    ("gunicorn", "web"),
    ("worker steps", "steps"),
    ("worker system", "system"),
)
"""What stands in a command line, and what such a process is called here."""


@dataclass(frozen=True)
class Weight:
    """MB of one process: resident, and resident with each shared page divided among those who have it."""

    name: str
    rss: float
    pss: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def weigh(pid: int) -> list[Weight]:
    """A process and its descendants, each after the one that started it."""
    return [weight for each in family(pid) for weight in _weight(each)]


def total(weights: Sequence[Weight]) -> tuple[float, float]:
    """MB together: the sum counts a shared page once for each process that has it, or once in all."""
    return sum(weight.rss for weight in weights), sum(weight.pss for weight in weights)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def _weight(pid: int) -> Iterator[Weight]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    yield Weight(next((name for words, name in NAMES if words in command), "other"), sizes["Rss"], sizes["Pss"])
