"""How often a property is tried, in each of the profiles that tests/conftest.py declares."""

from typing import Any

from hypothesis import Phase, settings

USUAL = 100
"""Examples of a property for which nothing else is said; a profile that says more means more of each."""

hunting = settings(max_examples=600, derandomize=True, phases=[Phase.generate])
"""For mutants, in every profile: found the same way in every run, and not reduced, because a mutant only has to die."""


def examples(count: int, **options: Any) -> settings:
    """A property that is tried `count` times in the suite, and as many times more in a search as the others."""
    return settings(max_examples=count * settings.default.max_examples // USUAL, **options)
