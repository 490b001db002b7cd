"""What is still to be done when an execution has ended: children to stop, a parent to tell, errors to report."""

from datetime import datetime

import structlog
from sqlalchemy import and_, update
from sqlalchemy.exc import IntegrityError

from pipelit.engine.core.graph import Json
from pipelit.engine.rounds import Round
from pipelit.engine.runtime import engine
from pipelit.errors import PipelitError
from pipelit.extensions import AWAY, db, transaction
from pipelit.models import Workflow, WorkflowExecution
from pipelit.models.execution import LIVE
from pipelit.nodes.base import TriggerEvent
from pipelit.services import ancestry, children, executions, plans
from pipelit.services.ancestry import Origin

log = structlog.get_logger(__name__)

AT_ONCE = 200
"""Executions looked after in one sweep."""


def follow_up(execution_id: str) -> None:
    """Do what follows from the end of an execution. Harmless when repeated; the sweep does what was left undone."""
    db.session.rollback()
    row = db.session.get(WorkflowExecution, execution_id, populate_existing=True)
    if row is None or row.is_live or not row.needs_follow_up:
        return
    is_alone = children.stop_awaited(row)
    children.deliver(row)
    if row.status in ("failed", "timed_out"):
        _report_error(row)
    if is_alone:
        with transaction() as session:
            done = update(WorkflowExecution).where(WorkflowExecution.execution_id == execution_id)
            session.execute(done.values(needs_follow_up=False))


def sweep(ended_before: datetime, *, at_once: int = AT_ONCE) -> int:
    """Follow up some of what ended before a time and was not followed up by then; returns how many those were."""
    overdue = and_(
        WorkflowExecution.needs_follow_up,
        WorkflowExecution.status.not_in(LIVE),
        WorkflowExecution.completed_at < ended_before,
    )
    found = Round(engine().redis, "follow_up", WorkflowExecution.completed_at).next_ids(overdue, at_once)
    for execution_id in found:
        try:
            follow_up(execution_id)
        except AWAY:
            raise  # A server is away; the next sweep tries again.
        except Exception:  # What is wrong with one must not keep the others from being looked after.
            log.exception("follow_up_failed", execution_id=execution_id)
            db.session.rollback()
    db.session.rollback()
    return len(found)


def _report_error(failed: WorkflowExecution) -> None:
    """Start the workflows that want to hear of a failure; what answers to errors makes no more of them."""
    if ancestry.is_about_an_error(failed):
        log.info("error_of_an_error_workflow", execution_id=failed.execution_id)
        return
    for workflow in _listeners(failed.workflow):
        execution_id = ancestry.error_id(failed.execution_id, workflow.id)
        trigger = plans.first_trigger(workflow, ancestry.ERROR)
        if trigger is None or db.session.get(WorkflowExecution, execution_id) is not None:
            continue
        event = TriggerEvent(ancestry.ERROR, _told(failed))
        origin = Origin(failed.execution_id, failed.error_node_id)
        try:
            executions.begin(workflow, trigger, event, execution_id=execution_id, origin=origin)
        except IntegrityError:
            log.info("error_reported_by_another", execution_id=execution_id)
        except PipelitError as error:
            log.warning("error_workflow_refused", workflow=workflow.slug, error=error.code, detail=error.detail)


def _listeners(workflow: Workflow) -> list[Workflow]:
    """The active workflows that hear of a failure: the workflow itself, and the one it names, if that may be run."""
    handler_id = workflow.error_handler_workflow_id
    named = db.session.get(Workflow, handler_id) if handler_id is not None else None
    found = [workflow]
    if named is not None and named.id != workflow.id and ancestry.may_call(workflow, named):
        found.append(named)
    return [each for each in found if each.is_active and each.deleted_at is None]


def _told(failed: WorkflowExecution) -> dict[str, Json]:
    """What is said about a failure."""
    return {
        "execution_id": failed.execution_id,
        "workflow_slug": failed.workflow.slug,
        "workflow_name": failed.workflow.name,
        "status": failed.status,
        "node_id": failed.error_node_id,
        "error": failed.error_message,
        "error_code": failed.error_code,
        "trigger": failed.trigger,
        "started_at": _utc(failed.started_at),
        "ended_at": _utc(failed.completed_at),
    }


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
