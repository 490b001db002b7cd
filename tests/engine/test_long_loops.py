"""Loops over long lists: what is kept of them while they run, whoever dies meanwhile, and what comes out."""

from typing import Any

import pytest

from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core.state import State
from pipelit.engine.keys import ExecutionKeys, TaskId
from pipelit.engine.pages import PAGE
from pipelit.engine.runtime import engine
from pipelit.engine.store import Store
from pipelit.engine.transition import Tools
from pipelit.engine.worker import Limits, Worker
from pipelit.models import WorkflowExecution
from pipelit.nodes import registry
from tests.engine.loops import ITEMS, LOOP, blob_count, deliveries, kept, numbers
from tests.engine.stories import attempts, beside, outcome, run_with, started, template
from tests.engine.test_journal import rename
from tests.support.hand import Hand
from tests.support.product import wait_until


def allowed(row: WorkflowExecution, state: State) -> set[str]:
    """The names of what may be kept while the state is this."""
    names = {f"{kind}:{step}" for step in state.steps for kind in ("output", "report", "postponed", "claim")}
    for step in state.in_flight:
        names.add(str(TaskId(row.execution_id, step, state.steps[step].attempt)))
        progress = state.steps[step].progress
        if progress is not None:
            is_open = set(progress.open).__contains__
            ahead = {index for index in range(progress.total) if index >= progress.following or is_open(index)}
            names |= {f"total:{step}", f"bytes:{step}", *(f"item:{step}:{index}" for index in ahead)}
            names |= {f"result:{step}:{index}" for index in set(range(progress.following)) - ahead}
    return names


@pytest.mark.parametrize("concurrency", [1, 7])
def test_of_a_long_loop_only_what_is_being_worked_on_is_kept(hand: Hand, concurrency: int) -> None:
    row = started(
        {
            "each": numbers(concurrency=concurrency),
            "a": template("{{ loop.item * 2 }}"),
            "end": template("{{ each.results }}"),
        },
        f"{LOOP}; each -> end",
    )
    sizes = [len(kept(row)) for _ in deliveries(hand)]

    assert max(sizes) <= 2 * PAGE + 6 * concurrency + 10
    assert outcome(row).final_output == [2 * index for index in range(ITEMS)]
    assert len(attempts(row, "a")) == ITEMS
    assert blob_count(row) == 1 + 4, "the items stay, for a retry goes back to them"


def test_the_first_item_may_be_the_last_to_be_done(hand: Hand) -> None:
    row = started({"each": numbers(concurrency=2), "a": template("{{ loop.item }}")}, LOOP)
    hand.deliver()
    first = hand.take()
    sizes = []
    while hand.deliver():
        sizes.append(len(kept(row)))

    assert max(sizes) <= 3 * PAGE + 20
    hand.run(first)
    assert outcome(row).final_output == {"results": list(range(ITEMS))}


def test_batches_are_items_of_their_own_and_have_one_result_each(hand: Hand) -> None:
    row = started(
        {
            "each": numbers(25, batch_size=10),
            "a": template("{{ loop.item | sum }} of {{ loop.total }}"),
            "end": template("{{ each.results }}"),
        },
        f"{LOOP}; each -> end",
    )
    hand.run_all()

    assert outcome(row).final_output == ["45 of 3", "145 of 3", "110 of 3"]


def test_a_hundred_thousand_items_go_through_in_batches(hand: Hand) -> None:
    row = started(
        {
            "each": numbers(100_000, batch_size=400, concurrency=3),
            "a": template("{{ loop.item | sum }}"),
            "end": template("{{ each.results | sum }}"),
        },
        f"{LOOP}; each -> end",
    )
    data, sizes = ExecutionKeys.of(row.execution_id).data, []
    while hand.deliver():
        # All fields are counted: five, as the server samples by itself, may be mostly the loop's own report.
        sizes.append(engine().redis.memory_usage(data, samples=0) or 0)

    assert outcome(row).final_output == sum(range(100_000))
    assert len(attempts(row, "a")) == 250
    assert max(sizes) < 1_000_000, "no more than a page of the batches is kept"


class Dead(BaseException):
    """The process ends here."""


class DyingStore(Store):
    """Copies results to SQL and dies before it removes them."""

    def remove(self, execution_id: str, fields: Any) -> None:
        raise Dead


def test_a_worker_that_dies_after_moving_results_has_moved_them_for_good(hand: Hand) -> None:
    ours = engine()
    tools = Tools(DyingStore(ours.redis, events_kept=100), ours.dispatcher, 262_144)
    limits = Limits(lease=6, timeout=300, blob_bytes=262_144, output_bytes=67_108_864)
    dying = Worker(Coordinator(tools, ours.plans), ours.worker.http, limits, registry.load())
    row = started({"each": numbers(), "a": template("{{ loop.item }}")}, LOOP)

    deaths = 0
    while delivery := hand.take():
        try:
            run_with(dying, delivery)
        except Dead:
            deaths += 1

    assert deaths == 3
    assert outcome(row).final_output == {"results": list(range(ITEMS))}


class AbsentStore(DyingStore):
    """Dies before it has moved anything."""

    def values(self, execution_id: str, fields: Any) -> dict[str, str | None]:
        if len(fields) == PAGE:
            raise Dead
        return super().values(execution_id, fields)


def test_a_worker_that_dies_before_moving_results_leaves_them_where_they_are(hand: Hand) -> None:
    ours = engine()
    tools = Tools(AbsentStore(ours.redis, events_kept=100), ours.dispatcher, 262_144)
    limits = Limits(lease=6, timeout=300, blob_bytes=262_144, output_bytes=67_108_864)
    dying = Worker(Coordinator(tools, ours.plans), ours.worker.http, limits, registry.load())
    row = started({"each": numbers(), "a": template("{{ loop.item }}")}, LOOP)

    deaths = 0
    for _ in range(PAGE + 2):
        try:
            run_with(dying, hand.take())
        except Dead:
            deaths += 1
    hand.run_all()

    assert deaths == 1
    assert outcome(row).final_output == {"results": list(range(ITEMS))}


def test_a_loop_waits_for_a_database_that_is_away_when_it_needs_its_next_page(hand: Hand) -> None:
    row = started({"each": numbers(), "a": template("{{ loop.item }}")}, LOOP)
    for _ in range(PAGE - 5):
        hand.deliver()

    rename("blobs", "elsewhere")
    with beside(hand, hand.run_all):
        rename_when_noticed(row)
    hand.run_all()

    assert outcome(row).final_output == {"results": list(range(ITEMS))}
    assert len(attempts(row, "a")) == ITEMS


def rename_when_noticed(row: WorkflowExecution) -> None:
    last = f"claim:a@each:{PAGE - 1}"
    wait_until(lambda: last in kept(row), "the last step of the page runs")
    rename("elsewhere", "blobs")


@pytest.mark.parametrize("inner", ["stop", "continue", "collect"])
@pytest.mark.parametrize("outer", ["continue", "collect"])
def test_nothing_of_an_iteration_that_is_over_is_kept(hand: Hand, outer: str, inner: str) -> None:
    """Cells fail at every place of every row; whatever that ends is forgotten with all that it had."""
    rows = [[column == place for column in range(4)] for place in range(4)]
    row = started(
        {
            "rows": ("loop", {"items": rows, "on_error": outer, "concurrency": 2}),
            "cells": ("loop", {"items": "{{ loop.item }}", "on_error": inner, "concurrency": 2}),
            "a": template("{{ loop.index if not loop.item else loop.item.nothing }}"),
            "wait": ("wait", {"seconds": 3600}),
            "b": template("b", failure={"retry": {"attempts": 2, "initial": 3600}}),
        },
        "start -> rows; rows =body=> cells; cells =return=> rows; rows =body=> wait; "
        "cells =body=> a; a -> b; b =return=> cells",
    )
    for _ in deliveries(hand, seed=len(outer) + len(inner)):
        loaded = engine().store.load(row.execution_id)
        if loaded is None:
            break
        assert kept(row) <= allowed(row, loaded[0].state)
    hand.run_all()

    waiting = [name for name in kept(row) if name.startswith(row.execution_id)]
    if inner == "stop":
        assert (outcome(row).status, waiting) == ("completed", [])
        assert len(outcome(row).final_output["results"]) == len(rows)
        assert (outcome(row).final_output["results"][0] is None) is (outer == "continue")
    else:
        assert sorted(waiting) == [f"{row.execution_id}:wait:rows:{index}:a1" for index in range(2)]


def test_what_a_dropped_loop_had_is_removed(hand: Hand) -> None:
    """The inner loop is half way, with items and results, when its neighbour fails."""
    row = started(
        {
            "rows": ("loop", {"items": [1, 2], "on_error": "collect"}),
            "cells": numbers(PAGE),
            "a": template("{{ loop.item }}"),
            "bad": template("{{ loop.item.nothing }}"),
        },
        "start -> rows; rows =body=> cells; cells =return=> rows; rows =body=> bad; cells =body=> a; a =return=> cells",
    )
    hand.deliver()
    bad = None
    for _ in range(12):
        delivery = hand.take()
        if delivery.args[1] == "bad@rows:0":
            bad = delivery
        else:
            hand.run(delivery)
    before = kept(row)
    assert {"item:cells@rows:0:50", "result:cells@rows:0:2", "total:cells@rows:0"} <= before

    hand.run(bad)

    assert [name for name in kept(row) if "@rows:0" in name] == []
    hand.run_all()
    assert [result["error_code"] for result in outcome(row).final_output["results"]] == ["expression_failed"] * 2
