"""How much a template may do: time, text, values."""

import time
from collections.abc import Callable

MAX_SOURCE = 64 * 1024
"""Characters of a template."""
MAX_TEXT = 1024 * 1024
"""Characters that a template with text around its expressions may come to."""
MAX_VALUE = 16 * 1024 * 1024
"""Size of one value, counted as `measure` does."""
MAX_MADE = 64 * 1024 * 1024
"""Size of all values that the templates of one config make."""
MAX_ITEMS = 100_000
"""Items of a range, and characters of a text that is taken apart."""
MAX_BITS = 16 * 1024
"""Bits of a whole number: more than any sum of money, less than a second of multiplying."""
SECONDS = 1.0
"""Processor time for the templates of one config."""

ITEM = 32
"""What an item of a list or an object counts besides its content."""


class LimitReached(Exception):
    """A template wants too much; the message says of what."""


class Budget:
    """What the templates of one config may still use.

    Time is processor time of this thread, so that a busy machine does not make a template fail. Reading it costs ten
    times as much as reading the wall clock, which never runs slower: it is asked only after that has run out.
    """

    __slots__ = ("_cpu", "_cpu_end", "_left", "_wall", "_wall_end")

    def __init__(self, cpu: Callable[[], float] = time.thread_time, wall: Callable[[], float] = time.perf_counter):
        self._cpu, self._wall = cpu, wall
        self._cpu_end, self._wall_end = cpu() + SECONDS, wall() + SECONDS
        self._left = MAX_MADE

    def tick(self) -> bool:
        """True, always: it raises `LimitReached` when the time is up."""
        if self._wall() > self._wall_end and self._cpu() > self._cpu_end:
            raise LimitReached(f"it takes more than {SECONDS:g} second to compute")
        return True

    def keep(self, value: object) -> None:
        """Count a value that a template made, without what was there before inside it."""
        if isinstance(value, str):
            size = len(value)
        elif isinstance(value, list | tuple | dict):
            size = ITEM * len(value)
        else:
            return
        check_size(size)
        self._left -= size
        if self._left < 0:
            raise LimitReached("it makes too many or too large values")


def check_size(size: int, limit: int = MAX_VALUE) -> None:
    """Refuse a value before it is made."""
    if size > limit:
        raise LimitReached(f"a value of size {size} is too large, the limit is {limit}")
