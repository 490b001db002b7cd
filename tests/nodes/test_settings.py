"""Declared settings become schemas: exact for what is stored, lenient for what templates resolved to."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from marshmallow import ValidationError, fields, validate

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes import registry
from pipelit.nodes.base import NodeConfig, StepNode
from pipelit.nodes.describe import config_schema
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, Json
from pipelit.nodes.settings import (
    MASK,
    Expression,
    Secret,
    SecretString,
    config,
    messages_by_path,
    nested,
    schema_class,
    setting,
)


@config
class Stop:
    """A nested configuration."""

    name: str = setting(fields.String(validate=validate.Length(min=1)), title="Name", is_literal=True)
    minutes: int = setting(fields.Integer(validate=validate.Range(0, 60)), title="Minutes", default=5)


@config
class TramConfig(NodeConfig):
    """One setting of each kind."""

    line: int = setting(fields.Integer(validate=validate.Range(1, 99)), title="Line")
    stops: Sequence[Stop] = setting(nested(Stop, many=True), title="Stops", default=[])
    fare: float = setting(fields.Float(), title="Fare", default=2.5)
    runs: bool = setting(fields.Boolean(), title="Runs", default=True)
    colour: str = setting(fields.String(validate=validate.OneOf(["red", "blue"])), title="Colour", default="red")
    mode: str = setting(fields.String(validate=validate.OneOf(["x", "y"])), title="Mode", default="x", is_literal=True)
    labels: dict[str, str] = setting(fields.Dict(fields.String(), fields.String()), title="Labels", default={})
    numbers: Sequence[int] = setting(fields.List(fields.Integer()), title="Numbers", default=[])
    note: str | None = setting(fields.String(), title="Note", default=None)
    anything: Json = setting(Expression(), title="Anything", default="")
    key: Secret | None = setting(SecretString(), title="Key", default=None)

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if values.get("mode") == "y" and not values.get("key"):
            yield "key", "Mode y needs a key."


class Tram(StepNode[TramConfig]):
    """A node type of this test."""

    type = "tram"
    title = "Tram"
    category = Category.FLOW
    icon = "tram"
    Config = TramConfig

    def run(self, config: TramConfig, context: object) -> Completed:
        return Completed()


TRAM = Tram()


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({}, "config.line"),
        ({"line": "5"}, "config.line"),
        ({"line": True}, "config.line"),
        ({"line": 1.5}, "config.line"),
        ({"line": 100}, "config.line"),
        ({"line": 1, "speed": 3}, "config.speed"),
        ({"line": 1, "fare": "2"}, "config.fare"),
        ({"line": 1, "fare": float("nan")}, "config.fare"),
        ({"line": 1, "runs": "yes"}, "config.runs"),
        ({"line": 1, "runs": 1}, "config.runs"),
        ({"line": 1, "colour": "green"}, "config.colour"),
        ({"line": 1, "colour": None}, "config.colour"),
        ({"line": 1, "mode": "{{ a }}"}, "config.mode"),
        ({"line": 1, "labels": {"a": 1}}, "config.labels.a.value"),
        ({"line": 1, "labels": []}, "config.labels"),
        ({"line": 1, "numbers": [1, "2"]}, "config.numbers.1"),
        ({"line": 1, "numbers": "1"}, "config.numbers"),
        ({"line": 1, "stops": [{"name": "A"}, {"name": ""}]}, "config.stops.1.name"),
        ({"line": 1, "stops": [{}]}, "config.stops.0.name"),
        ({"line": 1, "stops": [{"name": "A", "minutes": 61}]}, "config.stops.0.minutes"),
        ({"line": 1, "stops": [{"name": "A", "zone": 1}]}, "config.stops.0.zone"),
        ({"line": 1, "stops": {"name": "A"}}, "config.stops"),
        ({"line": 1, "anything": 5}, "config.anything"),
        ({"line": 1, "mode": "y"}, "config.key"),
    ],
)
def test_a_stored_config_is_refused_at_the_path_of_what_is_wrong(values: dict[str, Json], path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        TRAM.check(values)

    # marshmallow says of an object's member whether its name or its value is wrong; nothing else is beneath the path.
    assert [found.removesuffix(".value") for found in refusal.value.errors] == [path.removesuffix(".value")]


def test_a_template_stands_for_any_value_that_is_not_literal() -> None:
    values: dict[str, Json] = {
        "line": "{{ a.line }}",
        "fare": "{% if a %}1{% endif %}",
        "runs": "{{ a.runs }}",
        "colour": "{{ a.colour }}",
        "labels": {"a": "{{ b }}"},
        "numbers": ["{{ n }}", 2],
        "stops": [{"name": "A", "minutes": "{{ m }}"}],
    }

    assert TRAM.check(values) == values
    assert TRAM.check({"line": 1, "labels": "{{ all }}", "numbers": "{{ all }}"})


def test_what_templates_resolved_to_is_read_leniently() -> None:
    loaded = TRAM.configure(
        {
            "line": "5",
            "fare": "2.5",
            "runs": "yes",
            "note": 12,
            "labels": {"a": 1, "b": True},
            "numbers": ["1", 2.0],
            "stops": [{"name": "A", "minutes": "7"}],
            "anything": {"deep": [1]},
            "key": "a long secret",
        }
    )

    assert loaded == TramConfig(
        line=5,
        fare=2.5,
        runs=True,
        note="12",
        labels={"a": "1", "b": "true"},
        numbers=[1, 2],
        stops=[Stop(name="A", minutes=7)],
        anything={"deep": [1]},
        key=Secret("a long secret"),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"line": 1.5}, "line: Not a valid integer."),
        ({"line": True}, "line: Not a valid integer."),
        ({"line": "1_0"}, "line: Not a valid integer."),
        ({"line": []}, "line: Not a valid integer."),
        ({"line": 1, "stops": [{"name": "A", "minutes": "soon"}]}, "stops.0.minutes: Not a valid integer."),
        ({"line": 1, "note": ["a"]}, "note: Not a valid string."),
    ],
)
def test_a_resolved_value_that_does_not_fit_is_named(values: dict[str, Json], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message.replace(".", r"\.")):
        TRAM.configure(values)


def test_defaults_are_the_authors_and_every_config_has_its_own_list() -> None:
    one, other = TRAM.configure({"line": 1}), TRAM.configure({"line": 2})

    assert (one.fare, one.runs, one.note, one.stops) == (2.5, True, None, [])
    assert one.stops is not other.stops


def test_schemas_of_nested_settings_are_named_after_the_node_type() -> None:
    schema = config_schema(TRAM)

    assert list(schema["$defs"]) == ["TramStop"]
    assert schema["properties"]["stops"]["items"] == {"$ref": "#/$defs/TramStop"}
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["line"]


def test_the_form_learns_how_each_setting_is_shown() -> None:
    properties = config_schema(TRAM)["properties"]

    assert properties["line"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 99}
    assert properties["line"]["anyOf"][1]["type"] == "string"
    assert properties["line"]["x-expression"] is True
    assert properties["mode"]["enum"] == ["x", "y"]
    assert "x-expression" not in properties["mode"]
    assert properties["key"]["x-secret"] is True
    assert "x-expression" not in properties["key"]
    assert properties["note"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert [shown["x-order"] for shown in properties.values()] == list(range(11))


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("correct horse battery")

    assert f"{secret} {secret!r} {secret!s} {[secret]} {secret:>9}".count("horse") == 0
    assert secret.masked() == MASK + "tery"
    assert Secret("short").masked() == MASK
    assert secret.reveal() == "correct horse battery" == secret.encode().decode()
    assert "horse" not in repr(TRAM.configure({"line": 1, "key": secret.reveal()}))


def test_secrets_are_named_and_take_no_templates() -> None:
    assert TRAM.secrets == ("key",)
    assert TRAM.configure({"line": 1, "key": "{{ a }}"}).key == Secret("{{ a }}")


def test_a_secret_inside_a_nested_setting_is_refused_at_once() -> None:
    @config
    class Hidden:
        """Has what it must not have."""

        token: Secret = setting(SecretString(), title="Token")

    with pytest.raises(TypeError, match="Hidden holds a secret"):
        nested(Hidden)


def test_a_shared_schema_is_one_class() -> None:
    assert schema_class(Stop, "Shared", is_stored=True) is schema_class(Stop, "Shared", is_stored=True)


def test_messages_are_found_at_any_depth() -> None:
    error = ValidationError({"rules": {0: {"operator": ["Unknown."]}}, "_schema": ["Odd."]})

    assert messages_by_path(error, "config") == {"config.rules.0.operator": ["Unknown."], "config": ["Odd."]}


def test_schemas_are_json() -> None:
    assert json.loads(json.dumps(config_schema(TRAM)))


def test_a_default_has_to_name_outputs_that_the_type_has() -> None:
    loop = registry.get("loop")
    failure = {"on_error": "default", "default": 5}

    with pytest.raises(Invalid) as refused:
        loop.check({"failure": failure})

    assert refused.value.errors == {
        "config.failure.default": ["Give an object of outputs by port, not 5: Loop has the ports item, results."]
    }
    for default in ({"results": []}, {"item": None, "results": []}):
        assert loop.check({"failure": {"on_error": "default", "default": default}})
    assert loop.check({"failure": {"on_error": "stop", "default": 5}})
    with pytest.raises(Invalid):
        loop.check({"failure": {"on_error": "default", "default": {"results": [], "output": 1}}})
