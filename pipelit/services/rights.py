"""Who may do what with a workflow: the one guard that everything about workflows goes through."""

import re
from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import select

from pipelit.errors import Forbidden, NotFound
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowCollaborator

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,198}[a-z0-9])?")
"""What the slug of a workflow looks like. A deleted workflow's slug does not, so that nobody can address it."""


class Access(StrEnum):
    """What a user is to a workflow: owners share and delete it, editors change and run it, viewers look."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"

    def includes(self, needed: "Access") -> bool:
        """Whether who has this access may do what `needed` allows."""
        order = list(Access)
        return order.index(self) <= order.index(needed)


REFUSALS = {
    Access.OWNER: "Only its owner and administrators may do this to the workflow '{slug}'.",
    Access.EDITOR: "You may look at the workflow '{slug}', but neither change nor run it.",
}


def find(slug: str, user: UserProfile | None, needed: Access = Access.VIEWER, *, for_update: bool = False) -> Workflow:
    """The workflow called `slug`; without a user, for the installation itself.

    Raises `NotFound` where the user may not even look, `Forbidden` where they may look but not do what they want to.
    `for_update` makes other writers of the same workflow wait until the transaction ends.
    """
    if SLUG.fullmatch(slug) is None:
        raise _missing(slug)
    query = Workflow.present() if user is None else Workflow.visible_to(user)
    query = query.where(Workflow.slug == slug)
    workflow = db.session.scalar(query.with_for_update(of=Workflow) if for_update else query)
    if workflow is None:
        raise _missing(slug)
    require(workflow, user, needed)
    return workflow


def require(workflow: Workflow, user: UserProfile | None, needed: Access) -> None:
    """Let a user who may look at a workflow do what needs `needed`, or raise `Forbidden`."""
    if not access_of(workflow, user).includes(needed):
        raise Forbidden(REFUSALS[needed].format(slug=workflow.slug))


def access_of(workflow: Workflow, user: UserProfile | None) -> Access:
    """What a user who may look at a workflow is to it."""
    return accesses([workflow], user)[workflow.id]


def accesses(workflows: Sequence[Workflow], user: UserProfile | None) -> dict[int, Access]:
    """What a user who may look at these workflows is to each, by the workflow's id."""
    if user is None or user.is_admin:
        return {workflow.id: Access.OWNER for workflow in workflows}
    found = {workflow.id: Access.OWNER for workflow in workflows if workflow.owner_id == user.id}
    others = [workflow.id for workflow in workflows if workflow.id not in found]
    shared = select(WorkflowCollaborator.workflow_id, WorkflowCollaborator.role).where(
        WorkflowCollaborator.user_profile_id == user.id, WorkflowCollaborator.workflow_id.in_(others)
    )
    roles = {workflow_id: Access(role) for workflow_id, role in db.session.execute(shared)} if others else {}
    return found | {workflow_id: roles.get(workflow_id, Access.VIEWER) for workflow_id in others}


def visible_ids(ids: Sequence[int], user: UserProfile | None) -> set[int]:
    """Those of these workflows that a user may look at."""
    if not ids:
        return set()
    query = Workflow.present() if user is None else Workflow.visible_to(user)
    return set(db.session.scalars(query.where(Workflow.id.in_(ids)).with_only_columns(Workflow.id)))


def _missing(slug: str) -> NotFound:
    return NotFound(f"There is no workflow '{slug[:200]}'.")
