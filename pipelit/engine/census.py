"""What SQL says of concurrency groups: which executions are in one, and where each stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from pipelit.engine.groups import Groups, Overlap, Place, accepted_at
from pipelit.extensions import db
from pipelit.models import Workflow, WorkflowExecution
from pipelit.models.execution import LIVE


@dataclass(frozen=True, slots=True)
class Member:
    """An execution of a group that has not ended; the limit of its place is what its workflow says now."""

    execution_id: str
    has_begun: bool
    place: Place


def place_of(row: WorkflowExecution) -> Place | None:
    """Where an execution stands, if it is in a group. What has begun keeps its slot, whatever the limit is by now."""
    if row.concurrency_group is None:
        return None
    limit = row.workflow.max_concurrent if row.status == "pending" else None
    return Place(row.concurrency_group, accepted_at(row.created_at), limit, row.workflow.overlap)


def members() -> Sequence[Member]:
    """The executions of all groups that have not ended, in the order in which they were accepted.

    Read over a connection of its own: whoever asks may be in the middle of something else.
    """
    execution = WorkflowExecution
    query = (
        select(
            execution.execution_id,
            execution.status,
            execution.concurrency_group,
            execution.created_at,
            Workflow.max_concurrent,
            Workflow.overlap,
        )
        .join(Workflow, Workflow.id == execution.workflow_id)
        .where(execution.status.in_(LIVE), execution.concurrency_group.is_not(None))
        .order_by(execution.created_at, execution.execution_id)
    )
    with db.engine.connect() as connection:
        found = connection.execute(query).all()
    return [
        Member(execution_id, status != "pending", Place(group or "", accepted_at(accepted), limit, overlap))
        for execution_id, status, group, accepted, limit, overlap in found
    ]


def take(groups: Groups) -> None:
    """Count all groups anew, after a loss or for the first time: who has begun has a slot, who has not has its place.

    What the server knows has its slot, or has ended. What is not to wait gets no place.
    """
    found = members()
    unknown = groups.unknown_of([member.execution_id for member in found])
    lost = [member for member in found if member.execution_id in unknown]
    groups.give_places(
        live={member.execution_id: member.place for member in lost if member.has_begun},
        waiting={
            member.execution_id: member.place
            for member in lost
            if not member.has_begun and member.place.overlap != Overlap.DROP
        },
    )
    groups.open()
