"""The registry knows every node type, and the kinds of events that start workflows."""

import types

import pytest

from pipelit.errors import NotFound
from pipelit.nodes import registry
from pipelit.nodes.base import TriggerNode
from pipelit.nodes.flow.template import Template
from pipelit.nodes.tools.http_request import HttpRequestNode

BUILT_IN = {
    "aggregator",
    "assertion",
    "calculator",
    "datetime",
    "filter",
    "http_request",
    "loop",
    "merge",
    "set_fields",
    "switch",
    "template",
    "trigger_manual",
    "trigger_webhook",
    "trigger_workflow",
    "wait",
}


def test_the_built_in_types_are_there() -> None:
    assert set(registry.load()) >= BUILT_IN


def test_a_name_that_is_almost_one_is_answered_with_the_one() -> None:
    with pytest.raises(NotFound, match=r"There is no node type called 'calculator2'\. Did you mean 'calculator'\?"):
        registry.get("calculator2")
    with pytest.raises(NotFound, match=r"called 'xyzzy'\.$"):
        registry.get("xyzzy")


def test_triggers_are_found_by_the_kind_of_event() -> None:
    assert [trigger.type for trigger in registry.triggers("webhook")] == ["trigger_webhook"]
    assert registry.triggers("comet") == ()
    assert all(isinstance(trigger, TriggerNode) for trigger in registry.triggers("manual"))


def test_a_module_adds_only_what_it_defines_itself() -> None:
    module = types.ModuleType("visitor")
    visitor = type("Visitor", (Template,), {"type": "visitor", "__module__": "visitor"})
    module.Visitor, module.Template = visitor, Template  # type: ignore[attr-defined]

    assert list(registry.types_in(module)) == [visitor]


def test_two_types_of_one_name_are_refused() -> None:
    visitor, guest = types.ModuleType("visitor"), types.ModuleType("guest")
    for module in (visitor, guest):
        module.Visitor = type("Visitor", (Template,), {"type": "visitor", "__module__": module.__name__})  # type: ignore[attr-defined]

    with pytest.raises(
        registry.DuplicateNodeType, match=r"visitor is stated by .*visitor.Visitor.* and .*guest.Visitor"
    ):
        registry.collect([visitor, guest])
    assert list(registry.collect([visitor])) == ["visitor"]


def test_an_edge_without_a_port_carries_the_main_value() -> None:
    assert Template().value({"output": 1}) == 1
    assert registry.get("calculator").value({"result": 2}) == 2
    assert HttpRequestNode().value({"status": 200, "headers": {}, "body": 1}) == {
        "status": 200,
        "headers": {},
        "body": 1,
    }
    assert HttpRequestNode().value({"error": "x"}) == "x"
