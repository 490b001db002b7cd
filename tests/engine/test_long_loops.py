"""Loops over long lists: what is kept of them while they run, whoever dies meanwhile, and what comes out."""

import json
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from pipelit.config import Settings
from pipelit.engine import blobs
from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core.state import State
from pipelit.engine.keys import DEADLINES, ExecutionKeys, TaskId
from pipelit.engine.pages import PAGE
from pipelit.engine.runtime import engine
from pipelit.engine.store import Store
from pipelit.engine.transition import Tools
from pipelit.engine.worker import Limits, Worker
from pipelit.errors import ConfigError
from pipelit.extensions import db
from pipelit.models import WorkflowExecution
from pipelit.models.execution import Blob
from pipelit.nodes import registry
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from pipelit.services import execution_details
from tests.engine.stories import (
    PATIENCE,
    attempts,
    beside,
    outcome,
    output_of,
    run_all_with,
    run_with,
    started,
    template,
    worker_that,
)
from tests.engine.test_journal import rename
from tests.support.hand import Hand
from tests.support.product import wait_until

ITEMS = 3 * PAGE + 50
LOOP = "start -> each; each =body=> a; a =return=> each"


def numbers(total: int = ITEMS, **config: Any) -> tuple[str, dict[str, Any]]:
    """A loop over the numbers from 0."""
    return "loop", {"items": f"{{{{ range({total}) | list }}}}", **config}


def kept(row: WorkflowExecution) -> set[str]:
    """The names of what is kept of an execution beside its steps, and of what is looked after."""
    keys, redis = ExecutionKeys.of(row.execution_id), engine().redis
    claims = {field for field in redis.hkeys(keys.meta) if field.startswith("claim:")}
    deadlines = {member for member in redis.zrange(DEADLINES, 0, -1) if member.startswith(f"{row.execution_id}:")}
    return set(redis.hkeys(keys.data)) | claims | deadlines


def deliveries(hand: Hand, seed: int = 0) -> Iterator[None]:
    """Deliver steps in a random order until there are none."""
    chance = random.Random(seed)
    while delivery := hand.take() if chance.random() < 0.5 else hand.take_newest():
        hand.run(delivery)
        yield


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


def blob_count(row: WorkflowExecution) -> int:
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(Blob).filter_by(execution_id=row.execution_id)) or 0


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
        sizes.append(engine().redis.memory_usage(data) or 0)

    assert outcome(row).final_output == sum(range(100_000))
    assert len(attempts(row, "a")) == 250
    assert max(sizes) < 1_000_000, "no more than a page of the batches is kept"


class TestWithLittleRoom:
    """What comes out of loops that are larger than the working state takes."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, blob_bytes=1024, output_bytes=65_536)

    @pytest.mark.parametrize("concurrency", [1, 5])
    def test_results_are_read_from_their_pages(self, hand: Hand, concurrency: int) -> None:
        row = started(
            {
                "each": numbers(concurrency=concurrency),
                "a": template("{{ 'x' * 50 ~ loop.item }}"),
                "end": template("{{ each.results | length }} {{ each.results[0] }} {{ each.results[-1] }}"),
            },
            f"{LOOP}; each -> end",
        )
        for _ in deliveries(hand, seed=concurrency):
            pass

        x = "x" * 50
        assert outcome(row).final_output == f"{ITEMS} {x}0 {x}{ITEMS - 1}"
        assert output_of(row, "each")["results"].keys() == {"$blob", "bytes"}
        assert blob_count(row) == 2 * (1 + 4), "items, and what the log refers to, stay"
        log = next(log for log in outcome(row).logs if log.node_id == "each")
        shown = execution_details.log(row.execution_id, log.id, by=None).output
        assert shown == {"results": [f"{x}{index}" for index in range(ITEMS)]}

    def test_results_that_are_large_themselves_are_found_through_their_page(self, hand: Hand) -> None:
        row = started({"each": numbers(3), "a": template("{{ (loop.item | string) * 2000 }}")}, LOOP)
        hand.run_all()

        assert outcome(row).final_output == {"results": ["0" * 2000, "1" * 2000, "2" * 2000]}

    def test_large_items_are_found_on_every_page(self, hand: Hand) -> None:
        row = started(
            {
                "list": template("{{ ['y' * 300] * 120 + ['z' * 310] }}"),
                "each": ("loop", {"items": "{{ list.output }}", "concurrency": 9}),
                "a": template("{{ loop.item | length }}"),
            },
            "start -> list; list -> each; each =body=> a; a =return=> each",
        )
        data = ExecutionKeys.of(row.execution_id).data
        sizes = []
        for _ in deliveries(hand):
            fields = engine().redis.hgetall(data).items()
            sizes += [len(text) for name, text in fields if not name.startswith("report:")]

        assert max(sizes) <= 1024
        assert outcome(row).final_output == {"results": [300] * 120 + [310]}

    def test_results_that_no_step_can_read_fail_whoever_reads_them(self, hand: Hand) -> None:
        row = started(
            {"each": numbers(80), "a": template("{{ 'x' * 900 }}"), "end": template("{{ each.results | length }}")},
            f"{LOOP}; each -> end",
        )
        hand.run_all()

        assert attempts(row, "each") == [(1, "success", None)]
        assert attempts(row, "end") == [(1, "failed", "output_too_large")]
        assert outcome(row).error_message == (
            "each: The value has more than 65536 bytes of JSON, which is the limit (PIPELIT_OUTPUT_BYTES)."
        )

    def test_a_final_output_that_is_too_large_is_a_reference(self, hand: Hand) -> None:
        row = started({"each": numbers(80), "a": template("{{ 'x' * 900 }}")}, LOOP)
        hand.run_all()

        assert outcome(row).status == "completed"
        final = execution_details.final_output(outcome(row))
        assert final == output_of(row, "each")
        assert final["results"]["bytes"] == 80 * 903 + 1

    def test_a_list_with_too_much_in_it_fails_the_loop(self, hand: Hand) -> None:
        row = started({"each": ("loop", {"items": "{{ ['x' * 1000] * 70 }}"}), "a": template("a")}, LOOP)
        hand.run_all()

        assert attempts(row, "each") == [(1, "failed", "output_too_large")]
        assert "items: the list has more than 65536 bytes" in outcome(row).error_message

    def test_what_a_trigger_gave_is_kept_by_reference_too(self, hand: Hand) -> None:
        row = started(
            {"a": template("{{ trigger.payload.text | length }}")}, "start -> a", payload={"text": "x" * 5000}
        )

        data = engine().redis.hgetall(ExecutionKeys.of(row.execution_id).data)
        assert max(map(len, data.values())) < 1024
        hand.run_all()
        assert outcome(row).final_output == 5000

    def test_two_that_end_the_last_iteration_at_once_leave_the_result_that_counted(self, hand: Hand) -> None:
        """Each has written the page with its own idea of the result, and one of them is not committed."""
        together = threading.Barrier(2)

        def fail_together(context: StepContext) -> Completed:
            if context.node_id == "pad":
                return Completed({"output": "x"})
            together.wait(PATIENCE)
            raise ConfigError(f"{context.node_id} failed" + "." * 600)

        row = started(
            {"each": numbers(3, on_error="collect"), "pad": template(), "left": template(), "right": template()},
            "start -> each; each =body=> pad; pad -> left; pad -> right; left =return=> each",
        )
        hand.deliver()
        worker = worker_that(fail_together, blob_bytes=1024)
        while delivery := hand.take():
            run_with(worker, delivery)
            pair = [hand.take(), hand.take()]
            with beside(hand, *(lambda each=each: run_with(worker, each) for each in pair)):
                pass

        failed = {log.scope: log.error for log in outcome(row).logs if log.status == "failed"}
        results = outcome(row).final_output["results"]
        assert {f"each:{index}": result["error"] for index, result in enumerate(results)} == failed


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


def test_an_attempt_that_was_never_committed_leaves_no_blob_behind(hand: Hand) -> None:
    row = started({"a": template("{{ 'x' * 300000 }}"), "b": template("b")}, "start -> a; a -> b")
    blobs.put(row.execution_id, {"output": "y" * 300_000}, 1024)
    hand.run_all()

    assert outcome(row).status == "completed"
    reference = output_of(row, "a")["output"]["$blob"]
    assert blob_count(row) == 1
    assert db.session.get(Blob, reference) is not None


def test_an_output_of_a_hundred_megabytes_fails_its_step_and_nothing_else(hand: Hand) -> None:
    row = started(
        {"a": template(failure={"on_error": "continue"}), "sorry": template()}, "start -> a; a!error -> sorry"
    )
    giant = worker_that(
        lambda step: Completed({"small": 1, "large": "x" * (100_000_000 if step.node_id == "a" else 1)})
    )

    run_all_with(giant, hand)

    assert attempts(row, "a") == [(1, "failed", "output_too_large")]
    failed = next(log for log in outcome(row).logs if log.node_id == "a")
    assert "most of them in 'large'; the limit is 67108864 (PIPELIT_OUTPUT_BYTES)" in failed.error
    assert outcome(row).status == "completed"
    assert json.loads(outcome(row).logs[-1].output) == {"small": 1, "large": "x"}
