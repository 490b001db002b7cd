"""Deleting workflows: hidden, not destroyed, because what they once ran is still of interest."""

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.orm import Session

from pipelit import clock
from pipelit.engine import broadcast
from pipelit.errors import WorkflowBusy, WrongState
from pipelit.extensions import db, transaction
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.services import executions, preconditions, rights
from pipelit.services.editing import announce, editing
from pipelit.services.preconditions import Precondition
from pipelit.services.rights import Access


def delete(
    slug: str, *, by: UserProfile, is_forced: bool = False, precondition: Precondition = preconditions.none
) -> None:
    """Hide a workflow and free its slug; its executions stay. `is_forced` cancels what runs, otherwise it is busy."""
    if is_forced:
        workflow = rights.find(slug, by, Access.OWNER)
        precondition(workflow)
        for execution in db.session.scalars(WorkflowExecution.active(workflow)).all():
            # One that ended by itself meanwhile is as good as cancelled.
            with suppress(WrongState):
                executions.cancel(execution.execution_id, by=by)
    with editing(slug, by, Access.OWNER) as edit:
        precondition(edit.workflow)
        if not is_forced:
            _refuse_busy(edit.session, edit.workflow)
        _hide(edit.workflow)
        edit.tell("workflow_updated", {"slug": slug, "is_deleted": True})


def delete_many(slugs: Sequence[str], *, by: UserProfile) -> None:
    """Delete all of these workflows, or none if one is missing, running or somebody else's."""
    hidden = []
    with transaction() as session:
        # In one order for everybody, so that two people who delete the same ones do not wait for each other.
        for slug in sorted(set(slugs)):
            workflow = rights.find(slug, by, Access.OWNER, for_update=True)
            _refuse_busy(session, workflow)
            _hide(workflow)
            hidden.append(slug)
    for slug in hidden:
        announce(broadcast.workflow_channel(slug), [("workflow_updated", {"slug": slug, "is_deleted": True})])


def _refuse_busy(session: Session, workflow: Workflow) -> None:
    running = len(session.scalars(WorkflowExecution.active(workflow)).all())
    if running:
        raise WorkflowBusy(f"{running} execution(s) of the workflow '{workflow.slug}' have not ended yet.")


def _hide(workflow: Workflow) -> None:
    workflow.slug = f"{workflow.slug}~{workflow.id}"
    workflow.deleted_at = clock.now()
    workflow.is_default = False
