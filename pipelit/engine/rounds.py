"""Rounds through rows that sweeps look after, some at a time: whatever cannot be settled keeps nobody else waiting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis
from sqlalchemy import ColumnElement, select, tuple_

from pipelit.extensions import db
from pipelit.models import WorkflowExecution


@dataclass(frozen=True, slots=True)
class Round:
    """Goes through executions in the order of one of their times. How far it has come stands on the server.

    Whichever process sweeps next goes on from there, and begins anew behind the last of them.
    """

    redis: Redis
    name: str
    time: Any

    def next_ids(self, condition: ColumnElement[bool], count: int) -> Sequence[str]:
        """The next executions of which the condition holds; fewer than `count` when the round is complete."""
        key = f"pipelit:round:{self.name}"
        order = (self.time, WorkflowExecution.execution_id)
        query = select(*order).where(condition).order_by(*order).limit(count)
        at: Any = self.redis.get(key)
        if at is not None:
            moment, execution_id = str(at).split(" ")
            query = query.where(tuple_(*order) > (datetime.fromisoformat(moment), execution_id))
        found = db.session.execute(query).all()
        if len(found) < count:
            self.redis.delete(key)
        else:
            self.redis.set(key, f"{found[-1][0].isoformat()} {found[-1][1]}")
        return [execution_id for _, execution_id in found]
