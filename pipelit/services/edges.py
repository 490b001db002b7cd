"""The edges of a workflow, one at a time; none is stored that could not carry anything."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select

from pipelit import clock
from pipelit.errors import AlreadyExists, Invalid, NotFound
from pipelit.extensions import db
from pipelit.models import UserProfile, WorkflowEdge, WorkflowNode
from pipelit.nodes import registry
from pipelit.services import edge_rules, preconditions, rights
from pipelit.services.drafts import EDGE_FIELDS, MOST_EDGES, EdgeDraft
from pipelit.services.edge_rules import End
from pipelit.services.editing import Edit, editing
from pipelit.services.preconditions import Precondition


def of_workflow(slug: str, *, by: UserProfile) -> Sequence[WorkflowEdge]:
    """All edges of a workflow, oldest first."""
    workflow = rights.find(slug, by)
    query = select(WorkflowEdge).where(WorkflowEdge.workflow_id == workflow.id).order_by(WorkflowEdge.id)
    return db.session.scalars(query).all()


def get(slug: str, edge_id: int, *, by: UserProfile) -> WorkflowEdge:
    """One edge of a workflow."""
    return _find(rights.find(slug, by).id, slug, edge_id)


def create(slug: str, draft: EdgeDraft, *, by: UserProfile) -> WorkflowEdge:
    """Join two nodes."""
    with editing(slug, by) as edit:
        others = _drafts(edit)
        if len(others) >= MOST_EDGES:
            raise Invalid(f"A workflow has at most {MOST_EDGES} edges.")
        _check(edit, draft, others)
        edge = WorkflowEdge(workflow_id=edit.workflow.id, **columns(draft))
        edit.session.add(edge)
        edit.tell("edge_created", edge)
    return edge


def update(
    slug: str,
    edge_id: int,
    changes: Mapping[str, Any],
    *,
    by: UserProfile,
    precondition: Precondition = preconditions.none,
) -> WorkflowEdge:
    """Change what is mentioned; the edge that results has to be one that could be created."""
    with editing(slug, by) as edit:
        edge = _find(edit.workflow.id, slug, edge_id)
        precondition(edge)
        draft = replace(EdgeDraft.of(edge), **changes)
        _check(edit, draft, _drafts(edit, but=edge_id))
        for name, value in columns(draft).items():
            setattr(edge, name, value)
        edge.updated_at = clock.now()
        edit.tell("edge_updated", edge)
    return edge


def delete(slug: str, edge_id: int, *, by: UserProfile, precondition: Precondition = preconditions.none) -> None:
    """Take an edge away."""
    with editing(slug, by) as edit:
        edge = _find(edit.workflow.id, slug, edge_id)
        precondition(edge)
        edit.tell("edge_deleted", {"id": edge_id})
        edit.session.delete(edge)


def columns(draft: EdgeDraft) -> dict[str, Any]:
    """A draft as the columns of a row."""
    return {name: getattr(draft, name) for name in EDGE_FIELDS}


def end_of(node: WorkflowNode) -> End:
    """A stored node as its edges see it."""
    return End(node.node_id, registry.load().get(node.component_type), registry.current_values(node.config))


def count(workflow_ids: Sequence[int]) -> dict[int, int]:
    """How many edges each of these workflows has."""
    query = select(WorkflowEdge.workflow_id, func.count()).where(WorkflowEdge.workflow_id.in_(workflow_ids))
    return {row[0]: row[1] for row in db.session.execute(query.group_by(WorkflowEdge.workflow_id))}


def _find(workflow_id: int, slug: str, edge_id: int) -> WorkflowEdge:
    query = select(WorkflowEdge).where(WorkflowEdge.workflow_id == workflow_id, WorkflowEdge.id == edge_id)
    edge = db.session.scalar(query)
    if edge is None:
        raise NotFound(f"The workflow '{slug}' has no edge {edge_id}.")
    return edge


def _drafts(edit: Edit, *, but: int | None = None) -> list[EdgeDraft]:
    """The workflow's edges, without one of them."""
    parts = [getattr(WorkflowEdge, name) for name in EDGE_FIELDS]
    query = select(*parts).where(WorkflowEdge.workflow_id == edit.workflow.id)
    if but is not None:
        query = query.where(WorkflowEdge.id != but)
    return [EdgeDraft(*row) for row in edit.session.execute(query)]


def _check(edit: Edit, draft: EdgeDraft, others: Sequence[EdgeDraft]) -> None:
    """Raises `AlreadyExists` for a repeated edge, `Invalid` with everything else that is wrong, by field."""
    if draft.identity in {other.identity for other in others}:
        raise AlreadyExists(f"There is such an edge from '{draft.source_node_id}' to '{draft.target_node_id}' already.")
    found = edge_rules.complaints(draft, _ends(edit, draft))
    if not found:
        found = [("target_node_id", message) for _, message in edge_rules.circles([*others, draft])]
    if found:
        errors: dict[str, list[str]] = {}
        for name, message in found:
            errors.setdefault(name, []).append(message)
        raise Invalid(found[0][1], errors)


def _ends(edit: Edit, draft: EdgeDraft) -> dict[str, End]:
    """The nodes that the draft joins; if one is not there, all of them, so that a similar name can be found."""
    query = select(WorkflowNode).where(WorkflowNode.workflow_id == edit.workflow.id)
    wanted = {draft.source_node_id, draft.target_node_id}
    found = edit.session.scalars(query.where(WorkflowNode.node_id.in_(wanted))).all()
    if len(found) < len(wanted):
        found = edit.session.scalars(query).all()
    return {node.node_id: end_of(node) for node in found}
