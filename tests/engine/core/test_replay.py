"""An execution from its record: the rule of replay, held against what Hypothesis thinks up, and mutants of it."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
from hypothesis import given
from hypothesis.strategies import SearchStrategy

from pipelit.engine.core import replay as module
from pipelit.engine.core.graph import Join
from pipelit.engine.core.replay import replay
from tests.engine.core import replays
from tests.engine.core.replays import Replay, ReplayProperty
from tests.strategies import Case, Shape, cases
from tests.support.examples import examples, hunting

SOURCE = inspect.getsource(module)
ALL, LOOP = cases(joins=[Join.ALL]), cases(joins=[Join.ALL], shape=Shape.LOOP)

thorough = examples(100)


@thorough
@given(cases())
def test_a_finished_execution_is_replayed_to_its_end(case: Case) -> None:
    replays.a_finished_execution_is_replayed_to_its_end(replay, case)


@thorough
@given(ALL)
def test_what_was_recorded_runs_no_more_and_the_rest_does(case: Case) -> None:
    replays.what_was_recorded_runs_no_more_and_the_rest_does(replay, case)


@thorough
@given(ALL)
def test_the_order_of_the_record_does_not_matter(case: Case) -> None:
    replays.the_order_of_the_record_does_not_matter(replay, case)


@thorough
@given(cases())
def test_a_state_that_is_behind_catches_up(case: Case) -> None:
    replays.a_state_that_is_behind_catches_up(replay, case)


@thorough
@given(cases())
def test_a_number_is_given_once(case: Case) -> None:
    replays.a_number_is_given_once(replay, case)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A single edit of the text of `replay`, and the property that must notice it."""

    flaw: str
    original: str
    replacement: str
    killer: ReplayProperty
    cases: SearchStrategy[Case] = ALL


MUTANTS = [
    Mutant(
        "what is told too early is forgotten",
        "                self.early[_answered(current)] = current\n",
        "",
        replays.the_order_of_the_record_does_not_matter,
    ),
    Mutant(
        "steps that have ended are sent",
        "wanted = known is not None and known.status is StepStatus.READY and known.attempt == attempt",
        "wanted = True",
        replays.what_was_recorded_runs_no_more_and_the_rest_does,
    ),
    Mutant(
        "a wait that is over begins again",
        "case StepIterating() | StepSuspended() if _answered(event) in ended:",
        "case StepIterating() if _answered(event) in ended:",
        replays.the_order_of_the_record_does_not_matter,
    ),
    Mutant(
        "a step that waited never ends",
        "return (StepResumed if is_waiting else StepSucceeded)(step, attempt, route)",
        "return event",
        replays.a_finished_execution_is_replayed_to_its_end,
    ),
    Mutant(
        "a route that was taken is forgotten",
        "return (StepResumed if is_waiting else StepSucceeded)(step, attempt, route)",
        "return (StepResumed if is_waiting else StepSucceeded)(step, attempt)",
        replays.what_was_recorded_runs_no_more_and_the_rest_does,
        cases(joins=[Join.ALL], shape=Shape.BRANCHES),
    ),
    Mutant(
        "numbers are given again",
        "attempt = max(command.attempt, last.get(command.step, 0) + 1)",
        "attempt = command.attempt",
        replays.a_number_is_given_once,
    ),
    Mutant(
        "people are asked again about what they have answered",
        "return known is not None and known.status is held and not state.status.is_final",
        "return True",
        replays.nobody_is_asked_again,
    ),
    Mutant(
        "what follows from an answer given before is forgotten",
        "            following.extend(more)\n",
        "",
        replays.who_has_answered_is_not_asked,
    ),
    Mutant(
        "who has answered is asked for all that",
        "            after, more = advance(plan, after, StepReleased(command.step, command.is_after))\n",
        "            more = ()\n            kept.append(command)\n",
        replays.who_has_answered_is_not_asked,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.flaw)
def test_a_mutant_dies(mutant: Mutant) -> None:
    mutated = _mutated(mutant)

    @hunting
    @given(mutant.cases)
    def holds(case: Case) -> None:
        mutant.killer(mutated, case)

    with pytest.raises((AssertionError, LookupError)):
        holds()


@thorough
@given(cases())
def test_nobody_is_asked_again(case: Case) -> None:
    replays.nobody_is_asked_again(replay, case)


@thorough
@given(cases())
def test_who_has_answered_is_not_asked(case: Case) -> None:
    replays.who_has_answered_is_not_asked(replay, case)


def test_every_property_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "engine.md").read_text()
    stated = [name for name in vars(replays) if f"test_{name}" in globals()]

    assert len(stated) == 7
    assert [name for name in stated if f"`{name}`" not in text] == []


def _mutated(mutant: Mutant) -> Replay:
    """`replay` of a copy of the module with the edit made."""
    assert SOURCE.count(mutant.original) == 1, "the edit fits the text in one place"
    copy = ModuleType("mutated_replay")
    text = SOURCE.replace(mutant.original, mutant.replacement)
    # Its dataclasses look their module up by name.
    exec(compile(text.replace("(frozen=True, slots=True)", "(frozen=True)"), "mutated_replay", "exec"), vars(copy))
    return cast("Replay", copy.replay)
