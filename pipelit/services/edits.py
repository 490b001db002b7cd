"""What a person may put in the place of a held step's settings, or of its outputs."""

import json
from collections.abc import Mapping

from pipelit.engine.core.graph import Json, PlanNode
from pipelit.errors import Invalid
from pipelit.nodes import registry
from pipelit.nodes.base import ERROR_PORT
from pipelit.nodes.settings import declared_settings
from pipelit.nodes.values import described

POLICY = "failure"
"""What happens on failure was decided when the execution began."""


def of_settings(node: PlanNode, data: Json) -> dict[str, Json]:
    """Settings for a step that has not run, taken as they are: expressions in them are not computed.

    Raises `Invalid` with `data.…` paths for settings that there are not, that shape the graph, or that do not fit.
    """
    if data is None:
        return {}
    node_type = registry.get(node.type)
    given = _object(data)
    declared = declared_settings(node_type.Config)
    free = [name for name, shown in declared.items() if not (shown.is_literal or shown.is_secret or name == POLICY)]
    _refuse_unknown(given, free, "settings that can be changed now")
    try:
        node_type.check({**dict.fromkeys(node_type.secrets, "kept"), **node.config, **given})
    except Invalid as invalid:
        errors = {path.replace("config.", "data.", 1): messages for path, messages in invalid.errors.items()}
        path, messages = next(iter(errors.items()))
        raise Invalid(f"{path}: {messages[0]}", errors) from invalid
    return given


def of_outputs(node: PlanNode, outputs: str, data: Json) -> dict[str, Json]:
    """A step's outputs, those that are mentioned exchanged. Raises `Invalid` with `data.…` paths for other ports."""
    given = _object(data)
    known: dict[str, Json] = json.loads(outputs)
    ports = [port.name for port in registry.get(node.type).outputs if port.name != ERROR_PORT.name]
    _refuse_unknown(given, dict.fromkeys([*known, *ports]), "outputs")
    return {**known, **given}


def _object(data: Json) -> dict[str, Json]:
    if not isinstance(data, dict):
        raise Invalid("The data are not an object.", {"data": [f"Send an object, not {described(data)}."]})
    return data


def _refuse_unknown(given: Mapping[str, Json], known: "list[str] | dict[str, None]", what: str) -> None:
    names = ", ".join(known) or "none"
    errors = {f"data.{name}": [f"Not one of the {what}: {names}."] for name in given if name not in known}
    if errors:
        path, messages = next(iter(errors.items()))
        raise Invalid(f"{path}: {messages[0]}", errors)
