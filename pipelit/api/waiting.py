"""Waiting for the end of an execution that the same request starts.

Listening begins before the start, so that the end cannot be missed; and no database connection is held meanwhile.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from pipelit.api import live
from pipelit.engine import broadcast
from pipelit.engine.broadcast import LiveEvent
from pipelit.engine.core.graph import Json
from pipelit.engine.keys import RECORDED
from pipelit.extensions import db
from pipelit.models import WorkflowExecution
from pipelit.services import execution_details, executions

Start = Callable[[str], WorkflowExecution]

ENDS = ("execution_completed", "execution_failed", "execution_cancelled")


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended; `output` is what came out of it."""

    status: str
    output: Json


def start_and_wait(start: Start, seconds: float) -> WorkflowExecution:
    """Start an execution by its id and wait until its final row is written, for so long at most.

    The row returned is the one that `start` made.
    """
    execution_id = str(uuid.uuid4())
    if seconds <= 0:
        return start(execution_id)
    until = time.monotonic() + seconds
    with live.hub().listen(RECORDED + execution_id) as listener:
        row = start(execution_id)
        db.session.remove()
        listener.next(until - time.monotonic())
    return row


def start_and_hear_end(start: Start, seconds: float) -> tuple[WorkflowExecution, Ending | None]:
    """Start an execution by its id and hear how it ends, sooner than its row is written; None if it takes longer."""
    execution_id = str(uuid.uuid4())
    until = time.monotonic() + seconds
    recorded = RECORDED + execution_id
    with live.hub().listen(broadcast.execution_channel(execution_id), recorded) as listener:
        row = start(execution_id)
        db.session.remove()
        while heard := listener.next(until - time.monotonic()):
            channel, event = heard
            if channel == recorded:
                break
            if (ending := _ending(event)) is not None:
                return row, ending
    return row, _recorded_ending(execution_id)


def _ending(event: LiveEvent) -> Ending | None:
    """What the last event of an execution tells, unless that is only a part of the output."""
    if not event.body.startswith('{"type":"execution_'):
        return None
    told = json.loads(event.body)
    content = told["data"]
    if told["type"] not in ENDS or content.get("truncated") or '"$blob"' in event.body:
        return None
    return Ending(content["status"], content.get("output"))


def _recorded_ending(execution_id: str) -> Ending | None:
    row = executions.get(execution_id, by=None)
    return None if row.is_live else Ending(row.status, execution_details.final_output(row))
