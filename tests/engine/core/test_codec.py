"""How values of the core are written down."""

import pytest

from pipelit.engine.core.codec import decode_step, dump_json, encode_step
from pipelit.engine.core.state import Progress, StepState, StepStatus


def test_a_step_is_a_few_bytes() -> None:
    loop = StepState(StepStatus.ITERATING, attempt=2, progress=Progress(total=10_000, following=7, open=(4, 6)))

    assert encode_step(StepState(StepStatus.SUCCEEDED, 1, route="yes")) == '["succeeded",1,0,0,"yes",null]'
    assert encode_step(loop) == '["iterating",2,0,0,null,[10000,7,4,6]]'
    assert decode_step(encode_step(loop)) == loop


def test_json_is_compact_and_can_be_stored_anywhere() -> None:
    assert dump_json({"a": [1, None], "half a pair": "\ud800"}) == '{"a":[1,null],"half a pair":"\\ud800"}'


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json(float("nan"))
