"""A manual start hands on what the caller sent."""

import pytest

from pipelit.nodes.base import TriggerEvent
from pipelit.nodes.ports import Json
from pipelit.nodes.triggers.trigger_manual import TriggerManual

TRIGGER = TriggerManual()


@pytest.mark.parametrize(
    ("config", "sent", "payload", "text"),
    [
        ({}, {"payload": {"a": 1}, "text": "hi"}, {"a": 1}, "hi"),
        ({}, {"payload": {"text": "from the payload"}}, {"text": "from the payload"}, "from the payload"),
        ({}, {}, {}, ""),
        ({"sample": {"a": 2}}, {}, {"a": 2}, ""),
        ({"sample": {"a": 2, "text": "sample"}}, {"payload": {}, "text": ""}, {"a": 2, "text": "sample"}, "sample"),
        ({}, {"payload": "no object", "text": 5}, {}, ""),
    ],
)
def test_payload_and_text(config: dict[str, Json], sent: dict[str, Json], payload: Json, text: str) -> None:
    loaded = TRIGGER.configure(config)
    event = TriggerEvent("manual", sent)

    assert TRIGGER.matches(loaded, event)
    assert TRIGGER.emit(loaded, event) == {"payload": payload, "text": text}
    assert TRIGGER.key(config) is None
