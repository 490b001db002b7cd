"""Values larger than the working state takes: kept by reference, read whole, refused beyond the limit."""

import json
import threading
from dataclasses import replace

import pytest

from pipelit.config import Settings
from pipelit.engine import blobs
from pipelit.engine.keys import ExecutionKeys
from pipelit.engine.runtime import engine
from pipelit.errors import ConfigError
from pipelit.extensions import db
from pipelit.models.execution import Blob
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from pipelit.services import execution_details
from tests.engine.loops import ITEMS, LOOP, blob_count, deliveries, numbers
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
from tests.support.hand import Hand


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


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 + 1, -(10**40), 1.0, 0.1, 1e300])
def test_a_number_is_what_it_was_however_large(hand: Hand, number: float) -> None:
    row = started({"a": template("{{ trigger.payload.n }}")}, "start -> a", payload={"n": number})
    hand.run_all()

    found = outcome(row)

    assert (found.final_output, type(found.final_output)) == (number, type(number))
    assert found.trigger_payload["payload"]["n"] == number
    assert output_of(row, "a") == {"output": number}
