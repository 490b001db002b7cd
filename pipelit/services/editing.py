"""Changing a workflow: one transaction with the guard in front of it and the news behind it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from pipelit import clock
from pipelit.engine import broadcast
from pipelit.errors import Invalid
from pipelit.extensions import redis, transaction
from pipelit.models import UserProfile, Workflow, WorkflowEdge, WorkflowNode
from pipelit.nodes.ports import Json
from pipelit.services import rights
from pipelit.services.content import edge_content, node_content, workflow_content
from pipelit.services.rights import Access

log = structlog.get_logger(__name__)

Subject = Workflow | WorkflowNode | WorkflowEdge | Mapping[str, Json]


@dataclass(slots=True)
class Edit:
    """A workflow that is being changed by somebody, and what its watchers are going to hear about it."""

    session: Session
    workflow: Workflow
    by: UserProfile | None
    news: list[tuple[str, Subject]] = field(default_factory=list)

    def tell(self, kind: str, subject: Subject) -> None:
        """Tell the watchers once the change is committed; a row is described as it is then."""
        self.news.append((kind, subject))


@contextmanager
def editing(
    slug: str, by: UserProfile | None, needed: Access = Access.EDITOR, *, is_graph: bool = True
) -> Iterator[Edit]:
    """Change a workflow, one writer at a time; `is_graph` says that what runs is going to be different.

    Raises `NotFound` or `Forbidden` before anything happens. Either everything is kept or nothing.
    """
    with transaction() as session:
        workflow = rights.find(slug, by, needed, for_update=True)
        channel = broadcast.workflow_channel(workflow.slug)
        edit = Edit(session, workflow, by)
        yield edit
        workflow.updated_at = clock.now()
        if is_graph:
            workflow.revision += 1
        session.flush()
        news = [(kind, _content(subject)) for kind, subject in edit.news]
    announce(channel, news)


def announce(channel: str, news: list[tuple[str, dict[str, Json]]]) -> None:
    """Publish what was committed. Watchers who miss it read the workflow again."""
    try:
        for kind, content in news:
            broadcast.publish(redis(), channel, kind, content, clock.now())
    except RedisError as error:
        log.warning("broadcast_lost", channel=channel, error=str(error))


def require_visible(ids: Mapping[str, int | None], by: UserProfile | None) -> dict[str, list[str]]:
    """Messages for the fields, by path, whose workflow the user cannot see."""
    wanted = {path: number for path, number in ids.items() if number is not None}
    seen = rights.visible_ids(list(wanted.values()), by)
    return {
        path: [f"There is no workflow with the id {number}."] for path, number in wanted.items() if number not in seen
    }


def refuse(errors: Mapping[str, list[str]]) -> None:
    """Raise `Invalid` if there are any errors."""
    if errors:
        raise Invalid(f"{next(iter(errors))}: {next(iter(errors.values()))[0]}", errors)


def _content(subject: Subject) -> dict[str, Json]:
    match subject:
        case Workflow():
            return workflow_content(subject)
        case WorkflowNode():
            return node_content(subject)
        case WorkflowEdge():
            return edge_content(subject)
        case _:
            return dict(subject)
