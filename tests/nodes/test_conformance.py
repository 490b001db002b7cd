"""What every node type keeps, whoever wrote it. A new type is tested here by being there."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
import pytest
from sqlalchemy import inspect

from pipelit.errors import Invalid
from pipelit.models.node import ComponentConfig, map_config
from pipelit.nodes import registry
from pipelit.nodes.base import LoopingNode, NodeType, ProviderNode, StepNode, TriggerEvent, TriggerNode, schema_name
from pipelit.nodes.describe import config_schema, describe
from pipelit.nodes.fields import StoredField, is_template
from pipelit.nodes.outcome import Completed, Iterating, Suspended
from pipelit.nodes.ports import Json
from pipelit.nodes.reference import pages
from pipelit.nodes.settings import declared_settings
from tests.fakes import FakeContext, FakeHttp, brought, run

TYPES = registry.load()
STEPS = {name: known for name, known in TYPES.items() if isinstance(known, StepNode)}
TRIGGERS = {name: known for name, known in TYPES.items() if isinstance(known, TriggerNode)}
LANES = {"default", "llm", "triggers", "schedules", "maintenance"}

# Whatever an example may name: it is written for a reader, and reads like part of a small shop.
ITEMS: Json = [{"name": "pear", "price": 3, "kind": "fruit"}, {"name": "saw", "price": 25, "kind": "tool"}]
PAYLOAD: dict[str, Json] = {"type": "order", "total": 28, "vip": False, "items": ITEMS, "item": "pear", "text": "Hello"}
SCENE: dict[str, Json] = {"trigger": {"text": "Hello", "payload": PAYLOAD, "body": PAYLOAD}}

SIMPLE: list[Json] = [None, True, 5, 1.5, "text", [], ["a"], {}, -1, "{{ a }}"]

each_type = pytest.mark.parametrize("node_type", TYPES.values(), ids=TYPES)
each_step = pytest.mark.parametrize("node_type", STEPS.values(), ids=STEPS)
each_trigger = pytest.mark.parametrize("node_type", TRIGGERS.values(), ids=TRIGGERS)


def context() -> FakeContext:
    return FakeContext(SCENE, brought(ITEMS), http=FakeHttp({"answer": 42}))


def refused(node_type: NodeType[Any], config: Mapping[str, Json]) -> list[str]:
    """The paths of what is wrong with a config."""
    try:
        node_type.check(config)
    except Invalid as refusal:
        return list(refusal.errors)
    return []


@each_type
def test_it_says_what_it_is(node_type: NodeType[Any]) -> None:
    described = describe(node_type)

    assert described["display_name"]
    assert described["icon"]
    assert described["description"].endswith((".", "`", "5."))
    assert described["executable"] is isinstance(node_type, StepNode)
    assert all(port.description for port in (*node_type.inputs, *node_type.outputs))
    assert isinstance(node_type, StepNode | TriggerNode | ProviderNode)


@each_type
def test_its_description_is_json_and_its_schema_a_schema(node_type: NodeType[Any]) -> None:
    assert json.loads(json.dumps(describe(node_type))) == describe(node_type)

    jsonschema_rs.Draft202012Validator(config_schema(node_type))


@each_type
def test_its_example_is_a_config(node_type: NodeType[Any]) -> None:
    example = dict(node_type.example)

    assert node_type.check(example) == example
    assert jsonschema_rs.is_valid(config_schema(node_type), example)


@each_type
def test_what_it_stores_it_takes_again(node_type: NodeType[Any]) -> None:
    stored = json.loads(json.dumps(node_type.check(dict(node_type.example))))

    assert node_type.check(stored) == stored


@each_type
def test_unknown_settings_are_refused_by_type_and_schema(node_type: NodeType[Any]) -> None:
    odd = {**node_type.example, "no_such_setting": 1}

    with pytest.raises(Invalid) as refusal:
        node_type.check(odd)

    assert list(refusal.value.errors) == ["config.no_such_setting"]
    assert not jsonschema_rs.is_valid(config_schema(node_type), odd)


@each_type
def test_odd_configs_are_refused_and_never_crash(node_type: NodeType[Any]) -> None:
    odd: list[Json] = [
        None,
        True,
        5,
        1.5,
        "text",
        [],
        ["a"],
        [{}],
        {},
        {"a": 1},
        -1,
        10**400,
        "{{ a }}",
        "\x00",
        "\ud800",
    ]

    for name in declared_settings(node_type.Config):
        for value in odd:
            config = {**node_type.example, name: value}
            assert all(path.startswith("config.") for path in refused(node_type, config))
            if isinstance(node_type, StepNode):
                list(node_type.reads(config))
                list(node_type.routes(config))


@each_type
def test_the_published_schema_accepts_no_type_that_is_refused(node_type: NodeType[Any]) -> None:
    """What one setting alone may be is said in full by the schema; only what two of them mean together is not."""
    schema = config_schema(node_type)

    for name in declared_settings(node_type.Config):
        for value in SIMPLE:
            config = {**node_type.example, name: value}
            field = node_type.schema().fields[name]
            is_accepted = not node_type.schema().validate(config)
            is_valid = jsonschema_rs.is_valid(schema, config)
            assert is_valid or not is_accepted, (name, value)
            if is_valid and not is_accepted and isinstance(field, StoredField):
                assert hasattr(node_type.Config, "problems"), (name, value)


@each_type
def test_its_schemas_are_called_after_it(node_type: NodeType[Any]) -> None:
    assert node_type.schema.__name__ == schema_name(node_type.type)


def test_no_two_schemas_that_differ_have_one_name() -> None:
    known: dict[str, Json] = {}
    for node_type in TYPES.values():
        schema = config_schema(node_type)
        definitions = {**schema.pop("$defs", {}), schema_name(node_type.type): schema}
        for name, definition in definitions.items():
            assert known.setdefault(name, definition) == definition, name


@each_type
def test_it_has_a_row_class_of_its_own(node_type: NodeType[Any]) -> None:
    mapped = map_config(node_type.type)

    assert issubclass(mapped, ComponentConfig)
    assert inspect(mapped).polymorphic_identity == node_type.type


@each_type
def test_it_has_a_page(node_type: NodeType[Any]) -> None:
    page = pages()[f"{node_type.type}.md"]

    assert page.startswith(f"# {node_type.title}\n")
    assert all(f"`{name}`" in page for name in declared_settings(node_type.Config))
    assert all(f"`{port.name}`" in page for port in (*node_type.inputs, *node_type.outputs))


@each_type
def test_a_config_of_an_older_version_becomes_one_of_this(node_type: NodeType[Any]) -> None:
    upgraded = node_type.upgrade(dict(node_type.example), node_type.version)

    assert node_type.check(upgraded) == upgraded
    assert node_type.version == 1 or type(node_type).upgrade is not NodeType.upgrade


@each_type
def test_secrets_are_settings_of_the_node_itself(node_type: NodeType[Any]) -> None:
    shown = config_schema(node_type)["properties"]

    assert {name for name, field in shown.items() if field.get("x-secret")} == set(node_type.secrets)


@each_step
def test_its_example_runs_and_gives_its_ports(node_type: StepNode[Any]) -> None:
    outcome = run(node_type, node_type.example, context())

    match outcome:
        case Completed(outputs, route):
            assert set(outputs) == {port.name for port in node_type.outputs}
            assert json.loads(json.dumps(outputs, allow_nan=False)) == outputs
            assert route is None or route in node_type.routes(node_type.example)
            assert (route is None) == (not node_type.routes(node_type.example))
        case Suspended(_, outputs):
            assert set(outputs) <= {port.name for port in node_type.outputs}
            assert not node_type.is_pure
        case Iterating(items):
            assert isinstance(node_type, LoopingNode)
            assert json.dumps(list(items))


@each_step
def test_its_example_gives_the_same_again(node_type: StepNode[Any]) -> None:
    assert run(node_type, node_type.example, context()) == run(node_type, node_type.example, context())


@each_step
def test_the_engine_can_ask_it_everything(node_type: StepNode[Any]) -> None:
    example = node_type.example

    assert node_type.lane in LANES
    assert isinstance(node_type.waits_for_all(example), bool)
    assert isinstance(node_type.is_safe_to_repeat(example), bool)
    assert all(name == "trigger" or not is_template(name) for name in node_type.reads(example))
    if isinstance(node_type, LoopingNode):
        assert 1 <= node_type.concurrency(example) <= 100
        assert node_type.on_item_error(example) in ("stop", "continue", "collect")


@each_step
def test_a_pure_step_touches_nothing_outside(node_type: StepNode[Any], watched: "Watched") -> None:
    if not node_type.is_pure:
        return
    run(node_type, node_type.example, context())

    with watched:
        run(node_type, node_type.example, context())

    assert watched.events == []


@each_trigger
def test_it_emits_its_ports(node_type: TriggerNode[Any]) -> None:
    config = node_type.configure(dict(node_type.example))
    sent: Mapping[str, Json] = {
        "payload": PAYLOAD,
        "text": "hi",
        "body": PAYLOAD,
        **node_type.example,
        "method": "POST",
    }
    event = TriggerEvent(node_type.kind, sent)

    emitted = node_type.emit(config, event)

    assert node_type.matches(config, event)
    assert set(emitted) == {port.name for port in node_type.outputs}
    assert json.loads(json.dumps(emitted, allow_nan=False)) == emitted
    assert set(node_type.emit(config, TriggerEvent(node_type.kind))) == set(emitted)


class Watched:
    """Names the audit events of the outside world (files, sockets, processes) that happen inside its `with` block."""

    OUTSIDE = ("open", "os.", "socket.", "subprocess.", "shutil.", "sqlite3.", "time.sleep", "urllib.", "ctypes.")

    def __init__(self) -> None:
        self.events: list[str] = []
        self.is_on = False

    def hear(self, event: str, _arguments: tuple[Any, ...]) -> None:
        if self.is_on and event.startswith(self.OUTSIDE):
            self.events.append(event)

    def __enter__(self) -> "Watched":
        self.is_on = True
        return self

    def __exit__(self, *_error: object) -> None:
        self.is_on = False


@pytest.fixture(scope="module")
def listener() -> Watched:
    """Python never takes an audit hook back, so there is one for all tests here, mostly not listening."""
    watched = Watched()
    sys.addaudithook(watched.hear)
    return watched


@pytest.fixture
def watched(listener: Watched) -> Iterator[Watched]:
    listener.events.clear()
    yield listener
    listener.is_on = False
