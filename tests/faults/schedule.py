"""Which fault comes when: chosen by a seed, so that a run that found something can be run again."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

SLOW = ("drop_delivery",)
"""What takes half a minute to be mended, and is therefore rarer, and among the first."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, and how many seconds to leave after it before the next."""

    kind: str
    pause: float


def plan(random: Random, faults: int, kinds: Sequence[str], pauses: Sequence[float]) -> list[Planned]:
    """So many faults: every kind as often as any other, in any order, some of them right after one another."""
    chosen = [kinds[number % len(kinds)] for number in range(faults)]
    random.shuffle(chosen)
    chosen.sort(key=lambda kind: kind in SLOW and faults <= len(kinds), reverse=True)
    return [Planned(kind, random.choice(pauses)) for kind in chosen]
