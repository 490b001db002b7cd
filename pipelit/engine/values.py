"""What a step leaves, as JSON text: all its ports, what stands for them, and the part of it that is shown."""

import json
from collections.abc import Mapping

from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.graph import Json, PlanNode
from pipelit.errors import OutputInvalid
from pipelit.nodes import registry
from pipelit.nodes.base import StepNode

SHOWN_BYTES = 16_384
"""How much of an output an event carries."""


def encode_outputs(outputs: Mapping[str, Json]) -> str:
    """A step's outputs as JSON text. Raises `OutputInvalid`, naming the port and the type that does not fit."""
    try:
        return dump_json(dict(outputs))
    except (TypeError, ValueError, RecursionError):
        for port, value in outputs.items():
            try:
                dump_json(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise OutputInvalid(f"The output '{port}' cannot be written as JSON: {error}.") from error
        raise OutputInvalid("The names of the outputs must be text.") from None


def default_outputs(node: PlanNode) -> Mapping[str, Json]:
    """What stands in for the outputs of a step that was given up, by port."""
    node_type, default = registry.get(node.type), node.policy.default
    ports = node_type.stand_in(default) if isinstance(node_type, StepNode) else None
    # A plan of before may have a default that its type would not be given any more.
    return {"output": default} if ports is None else ports


def result_of(outputs: str) -> str:
    """What stands for a step as a whole: its `output` port, or else the object of all its ports."""
    ports = json.loads(outputs)
    return dump_json(ports["output"]) if "output" in ports else outputs


def shown(text: str) -> str:
    """The part of an event's data that shows an output: all of it, or its beginning and a mark."""
    if len(text) <= SHOWN_BYTES:
        return f'"output":{text}'
    return f'"output":{dump_json(text[:SHOWN_BYTES])},"truncated":true'
