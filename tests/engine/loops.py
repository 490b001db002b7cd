"""Loops over many numbers, for stories about what is kept of them."""

import random
from collections.abc import Iterator
from typing import Any

from sqlalchemy import func, select

from pipelit.engine.keys import DEADLINES, ExecutionKeys
from pipelit.engine.pages import PAGE
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import WorkflowExecution
from pipelit.models.execution import Blob
from tests.support.hand import Hand

ITEMS = 3 * PAGE + 50
LOOP = "start -> each; each =body=> a; a =return=> each"


def numbers(total: int = ITEMS, **config: Any) -> tuple[str, dict[str, Any]]:
    """A loop over the numbers from 0."""
    return "loop", {"items": f"{{{{ range({total}) | list }}}}", **config}


def kept(row: WorkflowExecution) -> set[str]:
    """The names of what is kept of an execution beside its steps, and of what is looked after."""
    keys, redis = ExecutionKeys.of(row.execution_id), engine().redis
    claims = {field for field in redis.hkeys(keys.meta) if field.startswith("claim:")}
    deadlines = {member for member in redis.zrange(DEADLINES, 0, -1) if member.startswith(f"{row.execution_id}:")}
    return set(redis.hkeys(keys.data)) | claims | deadlines


def deliveries(hand: Hand, seed: int = 0) -> Iterator[None]:
    """Deliver steps in a random order until there are none."""
    chance = random.Random(seed)
    while delivery := hand.take() if chance.random() < 0.5 else hand.take_newest():
        hand.run(delivery)
        yield


def blob_count(row: WorkflowExecution) -> int:
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(Blob).filter_by(execution_id=row.execution_id)) or 0
