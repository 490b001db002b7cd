"""Which execution started which: what a child is to its parent, how deep calls go, and who must hear of an end."""

import uuid
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from pipelit.engine.core.state import StepId
from pipelit.errors import WrongState
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.models.execution import LIVE
from pipelit.services import rights
from pipelit.services.rights import Access

CHILDREN = uuid.UUID("0b7f6f0e-59a5-5d2c-8a3b-0f7c5d6d1c02")
"""The namespace of executions that follow from others: asking twice for one gives the same one."""

ERROR = "error"
"""The `trigger` of an execution that was started by the failure of another."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What started an execution: a node of another one. `step` is the step that waits for its end, if one does."""

    execution_id: str
    node_id: str | None
    step: StepId | None = None
    depth: int = 0


def child_id(execution_id: str, step: StepId) -> str:
    """The id of the execution that a step starts: the same in every attempt."""
    return str(uuid.uuid5(CHILDREN, f"{execution_id}/{step}"))


def error_id(execution_id: str, workflow_id: int) -> str:
    """The id of the execution by which a workflow answers to a failed one."""
    return str(uuid.uuid5(CHILDREN, f"{execution_id}/error/{workflow_id}"))


def attach(session: Session, origin: Origin) -> None:
    """Have the parent's end looked after. Raises `WrongState` if it has ended: nobody would wait for the child.

    The parent's row is locked until the child's is there, so that whoever ends the parent sees the child.
    """
    if origin.step is None:
        return
    is_parent = WorkflowExecution.execution_id == origin.execution_id
    live = select(WorkflowExecution.execution_id).where(is_parent, WorkflowExecution.status.in_(LIVE))
    if session.scalar(live.with_for_update()) is None:
        raise WrongState(f"The execution {origin.execution_id} has ended.")
    session.execute(update(WorkflowExecution).where(is_parent).values(needs_follow_up=True))


def is_about_an_error(row: WorkflowExecution) -> bool:
    """Whether the execution answers to an error, or was called by one that does."""
    while row.trigger != ERROR:
        parent = row.parent_execution_id and db.session.get(WorkflowExecution, row.parent_execution_id)
        if not parent:
            return False
        row = parent
    return True


def may_call(caller: Workflow, target: Workflow) -> bool:
    """Whether the owner of a workflow may run another. Workflows without owners call only one another."""
    owner = caller.owner_id and db.session.get(UserProfile, caller.owner_id)
    if not owner:
        return target.owner_id is None
    return rights.access_of(target, owner).includes(Access.EDITOR)
