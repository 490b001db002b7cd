"""What may be watched live, and what of it has happened already.

Meant for callers that live for hours: nothing here leaves a database connection behind.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import wraps
from typing import ParamSpec, TypeVar

from pipelit.engine import broadcast
from pipelit.engine.broadcast import LiveEvent
from pipelit.engine.runtime import engine
from pipelit.errors import Invalid
from pipelit.extensions import db
from pipelit.models import ExecutionEvents, UserProfile
from pipelit.services import executions, rights, tokens

WORKFLOW = "workflow"
EXECUTION = "execution"

P = ParamSpec("P")
R = TypeVar("R")


def _brief(function: Callable[P, R]) -> Callable[P, R]:
    """Give the database connection back when the function returns."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        finally:
            db.session.remove()

    return wrapper


@_brief
def watcher(key: str, at: datetime) -> UserProfile:
    """Whose key this is. Raises `Unauthorized`."""
    return tokens.user_of(key, at)


@_brief
def check(channel: str, user: UserProfile) -> None:
    """Raises `NotFound` for a channel that is not there or not for this user, `Invalid` for what is no channel."""
    match channel.partition(":"):
        case ("workflow", ":", slug):
            rights.find(slug, user)
        case ("execution", ":", execution_id) if "\0" not in execution_id:
            executions.get(execution_id, by=user)
        case _:
            raise Invalid("A channel is called workflow:<slug> or execution:<id>.")


def counted(channel: str) -> int | None:
    """The number of the newest event of an execution; None for a channel whose events are not numbered by one."""
    kind, _, execution_id = channel.partition(":")
    if kind != EXECUTION:
        return None
    newest = broadcast.newest(engine().redis, execution_id)
    return newest or max((event.seq or 0 for event in _kept(execution_id)), default=0)


def missed(channel: str) -> Callable[[int], Iterator[LiveEvent]]:
    """Gives the events of an execution's channel after a number, in order."""
    execution_id = channel.partition(":")[2]

    def after(seq: int) -> Iterator[LiveEvent]:
        last = seq
        for event in broadcast.missed(engine().redis, execution_id, seq):
            yield event
            last = event.seq or last
        # The stream goes when the row is written, in this order: what is in neither is not there at all.
        yield from (event for event in _kept(execution_id) if event.seq is not None and event.seq > last)

    return after


@_brief
def _kept(execution_id: str) -> list[LiveEvent]:
    """The events of an ended execution."""
    kept = db.session.get(ExecutionEvents, execution_id)
    if kept is None:
        return []
    return [LiveEvent(event.pop("seq"), json.dumps(event)) for event in json.loads(zlib.decompress(kept.events))]
