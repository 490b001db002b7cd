"""What a step leaves, as JSON text: all its ports, what stands for them, and the part of it that is shown."""

import json
from collections.abc import Mapping

from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.graph import Json
from pipelit.errors import OutputInvalid

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


def result_of(outputs: str) -> str:
    """What stands for a step as a whole: its `output` port, or else the object of all its ports."""
    ports = json.loads(outputs)
    return dump_json(ports["output"]) if "output" in ports else outputs


def shown(text: str) -> str:
    """The part of an event's data that shows an output: all of it, or its beginning and a mark."""
    if len(text) <= SHOWN_BYTES:
        return f'"output":{text}'
    return f'"output":{dump_json(text[:SHOWN_BYTES])},"truncated":true'
