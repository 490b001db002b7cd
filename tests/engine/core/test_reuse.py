"""What a retry goes on from, held against a second opinion by recursion over the plan, and mutants that break it."""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pipelit.engine.core import reuse as module
from pipelit.engine.core.events import Event, StepIterating, StepReleased, StepSuspended
from pipelit.engine.core.graph import Join, On, Plan
from pipelit.engine.core.replay import ENDS, replay
from pipelit.engine.core.reuse import Beginning, reusable
from pipelit.engine.core.state import ExecutionStatus, State, StepId
from tests.engine.core.replays import Recording, continued
from tests.graphs import graph
from tests.strategies import Case, Shape, cases
from tests.support.examples import examples, hunting

Reusable = Callable[[Plan, Sequence[Event], Beginning | None], list[Event]]
SOURCE = inspect.getsource(module)


@dataclass(frozen=True, slots=True)
class Wish:
    """A case to be recorded, and which of its recorded steps is to begin anew, there or in all iterations."""

    case: Case
    pick: int
    is_everywhere: bool

    def granted(self) -> tuple[Recording, Beginning]:
        recording = Recording.of(self.case)
        steps = sorted({event.step for event in recording.events if not isinstance(event, StepReleased)}, key=str)
        step = steps[self.pick % len(steps)] if steps else StepId(self.case.plan.trigger)
        return recording, Beginning(step.node, None if self.is_everywhere else step.scope)


def wishes(shape: Shape = Shape.ANY) -> SearchStrategy[Wish]:
    return st.builds(Wish, cases(joins=[Join.ALL], shape=shape), st.integers(0, 60), st.booleans())


thorough = examples(100)


def what_follows_runs_again_and_nothing_else(reusable: Reusable, wish: Wish) -> None:
    """Kept are the ends of all steps that the beginning has no influence on, and the items of loops around it."""
    recording, beginning = wish.granted()
    plan, recorded = wish.case.plan, recording.events
    with_items = {(event.step, event.attempt) for event in recorded if isinstance(event, StepIterating)}
    expected = []
    for event in recorded:
        if isinstance(event, StepSuspended | StepReleased):
            continue
        is_given_up = type(event).__name__ == "StepFailed" and (event.step, event.attempt) in with_items
        is_success_of_loop = isinstance(event, ENDS[:2])
        again = _is_redone(plan, beginning, event.step)
        if not again and is_success_of_loop:
            again = _contains(plan, beginning, event.step)
        if not again and not is_given_up:
            expected.append(event)
    kept = reusable(plan, recorded, beginning)

    assert [event for event in kept if not isinstance(event, StepReleased)] == expected


def a_retry_ends_as_the_original(reusable: Reusable, wish: Wish) -> None:
    """Where steps do again what they did, the new execution comes to what the old one came to."""
    recording, beginning = wish.granted()
    if recording.driver.state.status is not ExecutionStatus.COMPLETED:
        return
    kept = reusable(recording.case.plan, recording.events, beginning)
    driver = continued(recording, replay(recording.case.plan, State(), kept)).play(())

    assert driver.state.status is ExecutionStatus.COMPLETED
    assert driver.state.steps == recording.driver.state.steps
    assert driver.values == recording.driver.values


@thorough
@given(wishes())
def test_what_follows_runs_again_and_nothing_else(wish: Wish) -> None:
    what_follows_runs_again_and_nothing_else(reusable, wish)


@thorough
@given(wishes())
def test_a_retry_ends_as_the_original(wish: Wish) -> None:
    a_retry_ends_as_the_original(reusable, wish)


@pytest.mark.parametrize(
    ("original", "replacement"),
    [
        ("return here in self.nodes", "return False"),
        ("            return isinstance(event, StepSucceeded)", "            return False"),
        ("            return isinstance(event, StepSucceeded)", "            return True"),
        (" or (self.scope is not None and step.scope[: self.depth] != self.scope)", ""),
        ("found.add(edge.target)\n", "pass\n"),
    ],
    ids=[
        "what follows is reused",
        "a loop around the beginning keeps its results",
        "a loop around the beginning loses its items",
        "other iterations run again",
        "only the node itself runs again",
    ],
)
def test_a_mutant_dies(original: str, replacement: str) -> None:
    mutated = _mutated(original, replacement)

    @hunting
    @given(wishes(Shape.LOOP))
    def holds(wish: Wish) -> None:
        what_follows_runs_again_and_nothing_else(mutated, wish)

    with pytest.raises(AssertionError):
        holds()


def test_the_insides_of_loops_that_have_ended_are_left_where_they_are() -> None:
    plan = graph("start -> L{ x -> y } -> d")
    inside = [StepId(node, (("L", index),)) for index in (0, 1) for node in ("x", "y")]
    ends = [module.StepSucceeded(step, 1) for step in (*inside, StepId("L"), StepId("d"))]
    recorded = [StepIterating(StepId("L"), 1, 2), *ends]

    kept = module.outermost(reusable(plan, recorded, Beginning("d", ())))

    assert [event.step for event in kept] == [StepId("L")]


def _is_redone(plan: Plan, beginning: Beginning, step: StepId) -> bool:
    """Whether a step begins anew: it is the beginning, or within or behind what begins anew."""
    if beginning.node == plan.trigger:
        return True
    if step.node == beginning.node and beginning.scope in (None, step.scope):
        return True
    if step.scope and _is_redone(plan, beginning, StepId(step.scope[-1][0], step.scope[:-1])):
        return True
    sources = (StepId(e.source, step.scope) for e in plan.edges if e.target == step.node and e.on is not On.BODY)
    return any(_is_redone(plan, beginning, s) or _contains(plan, beginning, s) for s in sources)


def _contains(plan: Plan, beginning: Beginning, step: StepId) -> bool:
    """Whether the beginning is in an iteration of this step."""
    if beginning.node not in plan.nodes:
        return False
    loop = plan.nodes[beginning.node].loop
    while loop is not None and loop != step.node:
        loop = plan.nodes[loop].loop
    return loop is not None and (beginning.scope is None or beginning.scope[: len(step.scope)] == step.scope)


def _mutated(original: str, replacement: str) -> Reusable:
    assert SOURCE.count(original) == 1, "the edit fits the text in one place"
    copy: Any = ModuleType("mutated_reuse")
    # Dataclasses look up the module that they are made in.
    sys.modules[copy.__name__] = copy
    exec(compile(SOURCE.replace(original, replacement), copy.__name__, "exec"), vars(copy))
    return cast(
        "Reusable",
        lambda plan, recorded, begin: copy.reusable(plan, recorded, copy.Beginning(begin.node, begin.scope)),
    )
