"""Every rule can fail: single edits of the scheduler's text, each caught by the property that holds the rule.

A mutant is compiled into a namespace of its own; the real module stays as it is. An edit that no longer fits the text
fails the test too, so that the list keeps up with the code.
"""

import inspect
from types import ModuleType
from typing import cast

import pytest
from hypothesis import given

from pipelit.engine.core import scheduler, state
from tests.engine.core.driver import Advance
from tests.engine.core.mutants import MUTANTS, Mutant
from tests.strategies import Case
from tests.support.examples import hunting

SOURCE = inspect.getsource(scheduler)
EDGES = inspect.getsource(state.takes)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule}: {mutant.flaw}")
def test_a_mutant_dies(mutant: Mutant) -> None:
    advance = mutated(mutant)

    @hunting
    @given(mutant.cases)
    def holds(case: Case) -> None:
        mutant.killer(advance, case)

    with pytest.raises((AssertionError, LookupError)):
        holds()


def test_every_rule_has_mutants() -> None:
    rules = [mutant.rule for mutant in MUTANTS]

    assert {rule[0] for rule in rules} == set("123456")
    assert all(rules.count(rule) >= 2 for rule in rules)


def mutated(mutant: Mutant) -> Advance:
    """`advance` of a copy of the scheduler, and of the function that judges edges for it, with the edit made."""
    places = SOURCE.count(mutant.original) + EDGES.count(mutant.original)
    assert places == 1, f"the edit fits {places} places of the text"
    module = ModuleType("mutated_scheduler")
    exec(compile(SOURCE.replace(mutant.original, mutant.replacement), module.__name__, "exec"), vars(module))
    if mutant.original in EDGES:
        edges = dict(vars(state))
        exec(compile(EDGES.replace(mutant.original, mutant.replacement), module.__name__, "exec"), edges)
        vars(module)["takes"] = edges["takes"]
    return cast("Advance", module.advance)
