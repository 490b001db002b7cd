"""Ends executions of which the engine knows nothing: they have not begun, or their state was lost with the server's."""

from redis import Redis
from sqlalchemy import delete

from pipelit import clock
from pipelit.engine import broadcast, records
from pipelit.engine.core.graph import Json
from pipelit.engine.core.state import ExecutionStatus
from pipelit.engine.keys import RECORDED
from pipelit.engine.narrator import END_EVENTS
from pipelit.engine.store import Store
from pipelit.errors import PipelitError
from pipelit.extensions import db, transaction
from pipelit.models.execution import PendingTask, WorkflowExecution


def end_unknown(
    store: Store, execution_id: str, status: ExecutionStatus, reason: PipelitError | None = None
) -> str | None:
    """Give an execution its final row, so that it never begins; returns its concurrency group, '' if it is in none.

    None if the engine does know the execution, or it has ended. Harmless when repeated. `reason` is why it failed, if
    it did; then what follows from a failure is left to the sweep.
    """
    if not store.forestall(execution_id):
        return None
    with transaction() as session:
        row = session.get(WorkflowExecution, execution_id, populate_existing=True)
        if row is None or not row.is_live:
            return None
        session.execute(delete(PendingTask).where(PendingTask.execution_id == execution_id))
        row.status, row.completed_at = status, clock.now()
        if reason is not None:
            row.error_code, row.error_message = reason.code, records.text(reason.detail)
            row.needs_follow_up = True
        return row.concurrency_group or ""


def tell_end(redis: Redis, execution_id: str) -> None:
    """Tell whoever waits or watches of an end that the engine had no part in; the event has no number."""
    row = db.session.get(WorkflowExecution, execution_id)
    if row is None:
        return
    told: dict[str, Json] = {"execution_id": execution_id, "status": row.status}
    if row.error_code is not None:
        told |= {"error": row.error_message, "error_code": row.error_code}
    watched = (broadcast.workflow_channel(row.workflow.slug), broadcast.execution_channel(execution_id))
    for channel in (RECORDED + execution_id, *watched):
        broadcast.publish(redis, channel, END_EVENTS[ExecutionStatus(row.status)], told, clock.now())
