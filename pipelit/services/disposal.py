"""Executions on their way out: marked in one small transaction, then deleted piece by piece, however much they left.

What is marked is gone for everybody who asks. Whoever dies in the midst of deleting has only done less.
"""

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, or_, select, tuple_, update
from sqlalchemy.orm import Session

from pipelit.extensions import db, transaction
from pipelit.models import WorkflowExecution
from pipelit.models.execution import LIVE
from pipelit.models.types import Base

BATCH = 100
"""Executions deleted together."""
ROWS = 500
"""Rows deleted in one transaction."""

HasTime = Callable[[], bool]
"""Whether to go on. It is asked before each piece."""

IS_OPEN = or_(WorkflowExecution.status.in_(LIVE), WorkflowExecution.needs_follow_up)
"""An execution that may not go: it is live, or something is still to follow from its end."""


def mark(session: Session, execution_ids: Collection[str], at: datetime) -> int:
    """Mark those of these executions that may go; how many those were."""
    wanted = WorkflowExecution.execution_id.in_(execution_ids), WorkflowExecution.removed_at.is_(None), ~IS_OPEN
    # Locked in one order for everybody, so that two who remove the same ones do not wait for each other.
    ordered = select(WorkflowExecution.execution_id).where(*wanted).order_by(WorkflowExecution.execution_id)
    ids = session.scalars(ordered.with_for_update()).all()
    if ids:
        session.execute(
            update(WorkflowExecution).where(WorkflowExecution.execution_id.in_(ids)).values(removed_at=at),
            execution_options={"synchronize_session": False},
        )
    return len(ids)


def clear(has_time: HasTime) -> int:
    """Delete a batch of marked executions: first what belongs to them, then their rows; how many of them are gone."""
    marked = select(WorkflowExecution.execution_id).where(WorkflowExecution.removed_at.is_not(None))
    db.session.rollback()
    ids = db.session.scalars(marked.order_by(WorkflowExecution.removed_at).limit(BATCH)).all()
    if not ids or not all(_is_emptied(table, ids, has_time) for table in parts()):
        return 0
    with transaction() as session:
        # `Any`: only the result of a statement that changes rows counts them, which the type does not say.
        result: Any = session.execute(delete(WorkflowExecution).where(WorkflowExecution.execution_id.in_(ids)))
        return int(result.rowcount)


def parts() -> Sequence[Table]:
    """The tables whose rows belong to an execution: those that refer to it and are deleted with it."""
    mine = WorkflowExecution.__table__
    return [
        table
        for table in Base.metadata.sorted_tables
        if any(key.column.table is mine and key.ondelete == "CASCADE" for key in table.foreign_keys)
    ]


def _is_emptied(table: Table, ids: Sequence[str], has_time: HasTime) -> bool:
    """Delete what these executions have in a table. False if there was no time to come to the end of it."""
    while has_time():
        began = time.monotonic()
        if delete_some(table, table.c.execution_id.in_(ids)) < ROWS:
            return True
        pause(began)
    return False


def delete_some(table: Any, *conditions: ColumnElement[bool]) -> int:
    """Delete some rows of a table, in a transaction of their own; how many those were.

    They are looked for beforehand, while others may write; the conditions have to hold then and still.
    """
    keys = tuple(table.primary_key.columns)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    db.session.rollback()
    found = db.session.execute(select(*keys).where(*conditions).limit(ROWS)).all()
    if not found:
        return 0
    chosen = [row[0] if len(keys) == 1 else tuple(row) for row in found]
    with transaction() as session:
        result: Any = session.execute(delete(table).where(key.in_(chosen), *conditions))
        return int(result.rowcount)


def pause(began: float) -> None:
    """Let others write for as long as we did."""
    time.sleep(min(0.5, time.monotonic() - began))
