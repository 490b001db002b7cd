"""What SQL says of concurrency groups: which executions are in one, and where each stands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, select

from pipelit.engine.groups import Groups, Overlap, Place, accepted_at
from pipelit.engine.store import batched
from pipelit.extensions import db
from pipelit.models import Workflow, WorkflowExecution
from pipelit.models.execution import LIVE

AT_ONCE = 1_000
"""Executions asked about by one query."""


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


IS_MEMBER = and_(WorkflowExecution.status.in_(LIVE), WorkflowExecution.concurrency_group.is_not(None))


def live_among(execution_ids: Iterable[str]) -> set[str]:
    """Those of the executions that are members of a group and have not ended."""
    found: set[str] = set()
    for some in batched(execution_ids, AT_ONCE):
        query = select(WorkflowExecution.execution_id).where(WorkflowExecution.execution_id.in_(some), IS_MEMBER)
        found.update(db.session.scalars(query))
    return found


def members(chosen: ColumnElement[bool] | None = None) -> Sequence[Member]:
    """The executions of all groups that have not ended, in the order in which they were accepted, or some of them.

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
        .where(IS_MEMBER if chosen is None else and_(IS_MEMBER, chosen))
        .order_by(execution.created_at, execution.execution_id)
    )
    with db.engine.connect() as connection:
        found = connection.execute(query).all()
    return [
        Member(execution_id, status != "pending", Place(group or "", accepted_at(accepted), limit, overlap))
        for execution_id, status, group, accepted, limit, overlap in found
    ]


def is_short(most: int) -> bool:
    """Whether no more than so many executions are to be counted, so that it can be done in passing."""
    some = select(WorkflowExecution.execution_id).where(IS_MEMBER).limit(most + 1).subquery()
    with db.engine.connect() as connection:
        return (connection.scalar(select(func.count()).select_from(some)) or 0) <= most


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
