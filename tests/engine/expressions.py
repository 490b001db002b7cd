"""One scope, and what expressions come to in it."""

import pytest

from pipelit.engine.expressions import resolve
from pipelit.errors import ExpressionError
from pipelit.nodes.ports import Json

ROWS: list[Json] = [{"kind": "x", "n": 1}, {"kind": "y", "n": 2}, {"kind": "x", "n": 5}]
SCOPE: dict[str, Json] = {
    "trigger": {"text": "hi", "items": ["a", "b"], "values": 7, "payload": {"type": "order", "none": None}},
    "hook": {"body": {"vip": True, "name": "Ada", "price": 1.5}, "rows": ROWS},
    "loop": {"item": "q", "index": 3, "total": 9},
    "result": "mine",
    "range": {"end": 4},
}


def rendered(source: str, scope: dict[str, Json] = SCOPE) -> Json:
    return resolve(source, scope, field="config.f")


def refusal(source: str, scope: dict[str, Json] = SCOPE) -> str:
    with pytest.raises(ExpressionError) as refused:
        resolve(source, scope, field="config.f")
    return refused.value.detail
