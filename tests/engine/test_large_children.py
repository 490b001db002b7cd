"""What comes out of a called workflow when it is large: the caller gets it whole, or is told that it is too much."""

from dataclasses import replace

import pytest

from pipelit.config import Settings
from tests.engine.calls import CALL, callee
from tests.engine.stories import attempts, outcome, output_of, started, template
from tests.support.hand import Hand

LOOP = {"each": ("loop", {"items": "{{ range(called.payload.n) | list }}"}), "say": template("{{ 'x' * 400 }}")}
LOOPED = "called -> each; each =body=> say; say =return=> each"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, blob_bytes=1024, output_bytes=65_536)


def called(hand: Hand, count: int, **config: object) -> object:
    callee(LOOP, LOOPED)
    name, about = CALL["call"]
    call = (name, {**about, "payload": {"n": count}, **config})
    row = started({"call": call, "end": template("{{ call.output.results | length }}")}, "start -> call; call -> end")
    hand.run_all()
    return row


def test_the_results_of_a_long_loop_come_back_whole(hand: Hand) -> None:
    row = called(hand, 120)

    assert (outcome(row).status, outcome(row).final_output) == ("completed", 120)
    assert "$blob" in str(output_of(row, "call")), "kept as the caller's own"


def test_more_than_an_output_may_have_fails_the_step_that_called(hand: Hand) -> None:
    row = called(hand, 300)

    assert attempts(row, "call") == [(1, "failed", "output_too_large")]
    assert (outcome(row).status, outcome(row).error_code) == ("failed", "output_too_large")
    assert "PIPELIT_OUTPUT_BYTES" in outcome(row).error_message
