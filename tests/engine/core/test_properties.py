"""The rules of docs/engine.md, held against plans, behaviours and orders of delivery that Hypothesis thinks up."""

from pathlib import Path

from hypothesis import given

from pipelit.engine.core.codec import decode_plan, decode_step, delta, encode_plan, structure_hash
from pipelit.engine.core.graph import Join, Plan
from pipelit.engine.core.scheduler import advance
from pipelit.engine.core.state import StepId, parse_scope, scope_text
from tests.engine.core import properties
from tests.engine.core.driver import Driver, Kind
from tests.strategies import Case, cases, plans
from tests.support.examples import examples

STOPS = (Kind.CANCEL, Kind.TIME_OUT)
thorough = examples(100)


@thorough
@given(cases())
def test_a_step_is_decided_by_its_edges(case: Case) -> None:
    properties.a_step_is_decided_by_its_edges(advance, case)


@thorough
@given(cases())
def test_a_step_runs_once(case: Case) -> None:
    properties.a_step_runs_once(advance, case)


@thorough
@given(cases())
def test_the_outcome_is_the_oracles(case: Case) -> None:
    properties.the_outcome_is_the_oracles(advance, case)


@thorough
@given(cases(joins=[Join.ALL]))
def test_the_outcome_does_not_depend_on_delivery(case: Case) -> None:
    properties.the_outcome_does_not_depend_on_delivery(advance, case)


@thorough
@given(cases())
def test_the_outcome_does_not_depend_on_delivery_even_if_joins_are_impatient(case: Case) -> None:
    properties.the_outcome_does_not_depend_on_delivery(advance, case)


@thorough
@given(cases())
def test_what_is_not_expected_changes_nothing(case: Case) -> None:
    properties.what_is_not_expected_changes_nothing(advance, case)


@thorough
@given(cases())
def test_iterations_run_in_order_and_within_bounds(case: Case) -> None:
    properties.iterations_run_in_order_and_within_bounds(advance, case)


@thorough
@given(cases())
def test_a_loop_holds_its_frontier_only(case: Case) -> None:
    properties.a_loop_holds_its_frontier_only(advance, case)


@thorough
@given(cases())
def test_an_execution_ends_once(case: Case) -> None:
    properties.an_execution_ends_once(advance, case)


@thorough
@given(cases(ends=STOPS))
def test_an_execution_that_is_stopped_ends_once(case: Case) -> None:
    properties.an_execution_ends_once(advance, case)


@thorough
@given(cases())
def test_a_failure_follows_the_policy(case: Case) -> None:
    properties.a_failure_follows_the_policy(advance, case)


@thorough
@given(cases())
def test_a_stopped_execution_names_the_step_that_failed(case: Case) -> None:
    properties.a_stopped_execution_names_the_step_that_failed(advance, case)


@thorough
@given(cases())
def test_a_loss_is_told_with_its_reason(case: Case) -> None:
    properties.a_loss_is_told_with_its_reason(advance, case)


@thorough
@given(cases())
def test_a_held_step_waits_for_its_release(case: Case) -> None:
    properties.a_held_step_waits_for_its_release(advance, case)


@thorough
@given(cases(ends=STOPS))
def test_advancing_mutates_nothing(case: Case) -> None:
    properties.advancing_mutates_nothing(advance, case)


@thorough
@given(plans())
def test_a_plan_is_the_same_after_it_was_stored(plan: Plan) -> None:
    text = encode_plan(plan)

    assert decode_plan(text) == plan
    assert encode_plan(decode_plan(text)) == text
    assert structure_hash(text) == structure_hash(encode_plan(plan))


@thorough
@given(cases(ends=STOPS))
def test_applied_deltas_are_the_state(case: Case) -> None:
    stored: dict[str, str] = {}
    for change in Driver(case.plan, case.behaviour, advance).play(case.schedule).log:
        written, dropped = delta(change.before.steps, change.after.steps)
        assert all(stored.get(step) != known for step, known in written.items()), "what stays is not written again"
        assert set(dropped) <= stored.keys()
        stored.update(written)
        for step in dropped:
            del stored[step]
        assert {StepId.parse(step): decode_step(known) for step, known in stored.items()} == change.after.steps
        assert all(parse_scope(scope_text(step.scope)) == step.scope for step in change.after.steps)


def test_every_property_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "engine.md").read_text()
    stated = [name for name in vars(properties) if f"test_{name}" in globals()]

    assert len(stated) > 10
    assert [name for name in stated if f"`{name}`" not in text] == []
