"""A called workflow gets what the caller handed over."""

from pipelit.nodes.base import TriggerEvent
from pipelit.nodes.triggers.trigger_workflow import TriggerWorkflow

TRIGGER = TriggerWorkflow()


def test_payload_and_text_are_the_callers() -> None:
    config = TRIGGER.configure({})

    assert TRIGGER.emit(config, TriggerEvent("workflow", {"payload": {"text": "hi"}})) == {
        "payload": {"text": "hi"},
        "text": "hi",
    }
    assert TRIGGER.emit(config, TriggerEvent("workflow")) == {"payload": {}, "text": ""}
