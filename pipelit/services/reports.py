"""What somebody from outside has to say about a waiting step, in the form in which the engine keeps outputs."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from pipelit.engine import blobs, values
from pipelit.engine.core.events import Event
from pipelit.engine.core.graph import Json
from pipelit.engine.narrator import Report
from pipelit.engine.runtime import engine

EventOf = Callable[[int], Event]
"""What is told of a step, once the number of its attempt is known."""


def with_outputs(report: Report, execution_id: str, outputs: Mapping[str, Json]) -> Report:
    """The report with these outputs; large ones are kept outside of the working state."""
    text = values.encode_outputs(outputs)
    limit = engine().settings.blob_bytes
    return replace(report, outputs=text if len(text) <= limit else blobs.put(execution_id, outputs, limit))
