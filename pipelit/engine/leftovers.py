"""Working state that nobody will ever look at again, found by going through the keys a few at a time."""

from typing import Any

from redis import Redis
from sqlalchemy import select

from pipelit.engine.keys import EXECUTION_PREFIX
from pipelit.engine.store import Store, batched
from pipelit.extensions import db
from pipelit.models.execution import LIVE, WorkflowExecution

CURSOR = "pipelit:leftovers:cursor"
CURSOR_SECONDS = 86_400
AT_ONCE = 500
STEPS = 10
"""How many times `AT_ONCE` keys are looked at in one sweep."""


def forget_leftovers(redis: Redis, store: Store, *, steps: int = STEPS) -> int:
    """Remove the state of executions that have ended, or are not there, in SQL; how many those were.

    Such state is left when the row is deleted, or a process dies, in the midst of an end. An execution's row is there
    before its state is, and has its final status only after the state's last change; so nothing live is ever hit. The
    search goes on where the last one stopped. Needs an application context.
    """
    cursor: Any = redis.get(CURSOR) or 0
    found: set[str] = set()
    for _ in range(steps):
        page: Any = redis.scan(int(cursor), match=f"{EXECUTION_PREFIX}*", count=AT_ONCE)
        cursor, keys = page
        found |= {key.removeprefix(EXECUTION_PREFIX).partition(":")[0] for key in _lasting(redis, keys)}
        if not int(cursor):
            break
    redis.set(CURSOR, int(cursor), ex=CURSOR_SECONDS)
    leftovers = found - _live(found)
    for execution_id in leftovers:
        store.forget(execution_id)
    return len(leftovers)


def _lasting(redis: Redis, keys: list[str]) -> list[str]:
    """Those keys that do not expire by themselves, as tombstones do."""
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.ttl(key)
    return [key for key, seconds in zip(keys, pipeline.execute(), strict=True) if seconds < 0]


def _live(ids: set[str]) -> set[str]:
    # What was read before belongs to an older snapshot, which may not know the youngest of them.
    db.session.rollback()
    live: set[str] = set()
    for some in batched(sorted(ids), AT_ONCE):
        mine = WorkflowExecution.execution_id.in_(some), WorkflowExecution.status.in_(LIVE)
        live |= set(db.session.scalars(select(WorkflowExecution.execution_id).where(*mine)))
    db.session.rollback()
    return live
