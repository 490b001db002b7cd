"""A loop names its items; the engine does the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import ConfigError, Invalid, TooManyItems
from pipelit.nodes.logic.loop import Loop
from pipelit.nodes.outcome import Iterating
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

LOOP = Loop()


def test_it_runs_once_for_each_item_that_came_in() -> None:
    assert run(LOOP, {}, FakeContext(inputs=brought([1, 2]))) == Iterating([1, 2])


def test_its_items_may_come_from_an_expression() -> None:
    context = FakeContext({"a": {"output": {"rows": ["x"]}}}, brought("ignored"))

    assert run(LOOP, {"items": "{{ a.output.rows }}"}, context) == Iterating(["x"])


def test_an_empty_list_is_a_loop_that_runs_never() -> None:
    assert run(LOOP, {"items": []}) == Iterating([])


@given(st.lists(st.integers(), max_size=30), st.integers(1, 7))
def test_batches_hold_every_item_once_and_in_order(items: list[Json], size: int) -> None:
    outcome = run(LOOP, {"items": items, "batch_size": size})

    assert isinstance(outcome, Iterating)
    assert [item for batch in outcome.items for item in batch] == items
    assert all(len(batch) == size for batch in outcome.items[:-1])


def test_a_list_that_is_too_long_fails_before_anything_ran() -> None:
    with pytest.raises(TooManyItems, match="max_iterations: the loop would run 10001 times, 10000 are allowed"):
        run(LOOP, {}, FakeContext(inputs=brought(list(range(10_001)))))

    assert run(LOOP, {"batch_size": 2}, FakeContext(inputs=brought(list(range(10_001)))))


def test_a_loop_takes_a_million_items_however_they_are_batched() -> None:
    with pytest.raises(TooManyItems, match="items: the list has 1000001 items, a loop takes at most 1000000"):
        run(LOOP, {"batch_size": 100_000}, FakeContext(inputs=brought([0] * 1_000_001)))


def test_what_is_no_list_is_described() -> None:
    with pytest.raises(ConfigError, match=r"^items: the input is not a list but an object with the keys a, b"):
        run(LOOP, {}, FakeContext(inputs=brought({"a": 1, "b": 2})))


def test_the_engine_learns_how_the_iterations_run() -> None:
    assert (LOOP.concurrency({}), LOOP.on_item_error({})) == (1, "stop")
    assert (LOOP.concurrency({"concurrency": 8}), LOOP.on_item_error({"on_error": "collect"})) == (8, "collect")


@pytest.mark.parametrize("concurrency", [0, 101, "{{ a }}", None])
def test_concurrency_is_a_number_that_the_plan_can_know(concurrency: Json) -> None:
    with pytest.raises(Invalid) as refusal:
        LOOP.check({"concurrency": concurrency})

    assert list(refusal.value.errors) == ["config.concurrency"]


@pytest.mark.parametrize("items", [5, True, {}, "a, b", ""])
def test_items_that_are_no_list_are_refused_before_it_runs(items: Json) -> None:
    with pytest.raises(Invalid) as refused:
        LOOP.check({"items": items})

    (message,) = refused.value.errors["config.items"]
    assert message.startswith("items is not a list but ")
