"""Who else may look at a workflow, or change and run it."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelit.errors import Invalid, NotFound
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowCollaborator
from pipelit.services import rights
from pipelit.services.editing import editing
from pipelit.services.rights import Access

Person = int | str
"""A user's id, or their name."""


def of_workflow(slug: str, *, by: UserProfile) -> Sequence[WorkflowCollaborator]:
    """The collaborators of a workflow, in the order in which they were invited."""
    workflow = rights.find(slug, by)
    query = select(WorkflowCollaborator).where(WorkflowCollaborator.workflow_id == workflow.id)
    return db.session.scalars(query.order_by(WorkflowCollaborator.id)).all()


def share(slug: str, person: Person, role: str, *, by: UserProfile) -> WorkflowCollaborator:
    """Let somebody in, or give them another role."""
    with editing(slug, by, Access.OWNER, is_graph=False) as edit:
        user = _user(edit.session, person)
        if user is None:
            name = "user_id" if isinstance(person, int) else "username"
            raise Invalid(f"There is no user {person!r}.", {name: [f"There is no user {person!r}."]})
        if user.id == edit.workflow.owner_id:
            raise Invalid(f"{user.username} owns the workflow.")
        found = _collaborator(edit.session, edit.workflow, user)
        if found is None:
            found = WorkflowCollaborator(workflow_id=edit.workflow.id, user=user)
            edit.session.add(found)
        found.role = role
    return found


def withdraw(slug: str, person: Person, *, by: UserProfile) -> None:
    """Take somebody's access away; everybody may leave on their own account."""
    is_leaving = person in {by.id, by.username}
    with editing(slug, by, Access.VIEWER if is_leaving else Access.OWNER, is_graph=False) as edit:
        user = _user(edit.session, person)
        found = _collaborator(edit.session, edit.workflow, user) if user is not None else None
        if found is None:
            raise NotFound(f"The workflow '{slug}' is not shared with {person!r}.")
        edit.session.delete(found)


def _user(session: Session, person: Person) -> UserProfile | None:
    column = UserProfile.id if isinstance(person, int) else UserProfile.username
    return session.scalar(select(UserProfile).where(column == person))


def _collaborator(session: Session, workflow: Workflow, user: UserProfile) -> WorkflowCollaborator | None:
    query = select(WorkflowCollaborator).where(
        WorkflowCollaborator.workflow_id == workflow.id, WorkflowCollaborator.user_profile_id == user.id
    )
    return session.scalar(query)
