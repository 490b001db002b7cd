"""Waiting for the end of an execution that the same request starts.

Listening begins before the start, so that the end cannot be missed; and no database connection is held meanwhile.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from pipelit.api import live
from pipelit.api.live import Listener
from pipelit.engine.broadcast import LiveEvent
from pipelit.engine.core.graph import Json
from pipelit.engine.keys import RECORDED
from pipelit.extensions import db
from pipelit.models import WorkflowExecution
from pipelit.services import execution_details, executions

Start = Callable[[str], WorkflowExecution]
StartForReply = Callable[[str, str], WorkflowExecution]
"""Takes the execution's id, and the channel on which the engine is to tell its end."""

ENDS = ("execution_completed", "execution_failed", "execution_cancelled")

PROMPT_SECONDS = 1.0
"""How long only the engine's reply is waited for; whoever waits longer listens for the final row as well."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended; `output` is what came out of it, `error_code` why nothing did."""

    status: str
    output: Json
    error_code: str | None = None


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


def start_and_hear_end(start: StartForReply, seconds: float) -> tuple[WorkflowExecution, Ending | None]:
    """Start an execution by its id and hear how it ends, sooner than its row is written; None if it takes longer."""
    execution_id = str(uuid.uuid4())
    until = time.monotonic() + seconds
    hub = live.hub()
    with hub.await_reply(execution_id) as listener:
        row = start(execution_id, hub.address)
        db.session.remove()
        reply = listener.next(min(seconds, PROMPT_SECONDS))
        ending = _ending(reply[1]) if reply is not None else None
        return row, ending or _later_ending(execution_id, until, listener)


def hear_end(execution_id: str, seconds: float) -> Ending | None:
    """How an execution ends that an earlier request started; None if it takes longer."""
    return _later_ending(execution_id, time.monotonic() + seconds)


def _later_ending(execution_id: str, until: float, listener: Listener | None = None) -> Ending | None:
    """The end of an execution that takes long, or tells only a part of its output, or whose reply was lost.

    Lost is the reply of one that somebody else has started, because the broker was away, or whose broker lost it.
    """
    with live.hub().listen(RECORDED + execution_id, listener=listener) as heard_by:
        ending = _recorded_ending(execution_id)
        while ending is None and (heard := heard_by.next(until - time.monotonic())) is not None:
            ending = _ending(heard[1]) or _recorded_ending(execution_id)
    return ending or _recorded_ending(execution_id)


def _ending(event: LiveEvent) -> Ending | None:
    """What the last event of an execution tells, unless that is only a part of the output."""
    if not event.body.startswith('{"type":"execution_'):
        return None
    told = json.loads(event.body)
    content = told["data"]
    if told["type"] not in ENDS or content.get("truncated") or '"$blob"' in event.body:
        return None
    return Ending(content["status"], content.get("output"), content.get("error_code"))


def _recorded_ending(execution_id: str) -> Ending | None:
    row = executions.get(execution_id, by=None)
    ending = None if row.is_live else Ending(row.status, execution_details.final_output(row), row.error_code)
    db.session.remove()
    return ending
