"""How many executions of a workflow may be live at once, as its author says it."""

from collections.abc import Mapping
from datetime import datetime

from pipelit.engine import expressions
from pipelit.engine.compiler import TRIGGER
from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.graph import Json
from pipelit.engine.groups import Place, accepted_at, group_of
from pipelit.errors import ExpressionError, Invalid
from pipelit.models import Workflow

FIELD = "serial_key"


def complaints(serial_key: str | None) -> list[str]:
    """What is wrong with the template of a serial key. Nothing is rendered."""
    if not serial_key:
        return []
    found = [message for _, message in expressions.syntax_problems(serial_key, FIELD)]
    names = sorted(expressions.names(serial_key) - {TRIGGER})
    if names:
        found.append(f"It reads {', '.join(map(repr, names))}; before an execution begins there is only 'trigger'.")
    return found


def place_of(workflow: Workflow, outputs: Mapping[str, Json], accepted: datetime) -> Place | None:
    """Where an execution that is accepted now stands; None if its workflow has no limit.

    Raises `Invalid` if the event has no serial key.
    """
    if workflow.max_concurrent is None:
        return None
    group = group_of(workflow.id, _serial_key(workflow, outputs))
    return Place(group, accepted_at(accepted), workflow.max_concurrent, workflow.overlap)


def _serial_key(workflow: Workflow, outputs: Mapping[str, Json]) -> str:
    if not workflow.serial_key:
        return ""
    try:
        key = expressions.resolve(workflow.serial_key, {TRIGGER: dict(outputs)}, field=FIELD)
    except ExpressionError as error:
        message = f"The workflow counts its executions by a key that this event does not have: {error.detail}"
        raise Invalid(message, {FIELD: [message]}) from error
    return key if isinstance(key, str) else dump_json(key)
