"""Which fault comes when: chosen by a seed, so that a run that found something can be run again."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.faults.injectors import INJECTORS

SLOW = ("drop_delivery",)
"""What takes half a minute to be mended, and is therefore rarer, and among the first."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, and how many seconds to leave after it before the next."""

    kind: str
    pause: float


def plan(random: Random, faults: int, kinds: Sequence[str] = tuple(INJECTORS)) -> list[Planned]:
    """So many faults: every kind as often as any other but for chance, some of them right after one another."""
    chosen = [kinds[number % len(kinds)] for number in range(faults)]
    random.shuffle(chosen)
    chosen.sort(key=lambda kind: kind in SLOW and faults <= len(kinds), reverse=True)
    return [Planned(kind, random.choice((0.0, 0.5, 1.0, 2.0))) for kind in chosen]
