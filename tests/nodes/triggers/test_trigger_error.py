"""A failed execution is handed over as one object."""

from pipelit.nodes.base import TriggerEvent
from pipelit.nodes.triggers.trigger_error import TriggerError

TRIGGER = TriggerError()


def test_the_failure_is_the_output() -> None:
    told = {"execution_id": "1", "error_code": "step_timeout"}

    assert TRIGGER.emit(TRIGGER.configure({}), TriggerEvent("error", told)) == {"error": told}


def test_started_by_hand_the_payload_stands_for_a_failure() -> None:
    config = TRIGGER.configure({})

    assert TRIGGER.emit(config, TriggerEvent("manual", {"payload": {"error": "x"}})) == {"error": {"error": "x"}}
    assert TRIGGER.emit(config, TriggerEvent("manual", {})) == {"error": {}}
