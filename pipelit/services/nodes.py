"""The nodes of a workflow, one at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select

from pipelit import clock
from pipelit.errors import AlreadyExists, Invalid, NotFound
from pipelit.extensions import db
from pipelit.models import UserProfile, WorkflowEdge, WorkflowNode
from pipelit.services import names, node_config, preconditions, rights, trigger_keys
from pipelit.services.drafts import MOST_NODES, NODE_FIELDS, NodeDraft
from pipelit.services.editing import Edit, editing, refuse, require_visible
from pipelit.services.preconditions import Precondition


def of_workflow(slug: str, *, by: UserProfile) -> Sequence[WorkflowNode]:
    """All nodes of a workflow, oldest first."""
    workflow = rights.find(slug, by)
    query = select(WorkflowNode).where(WorkflowNode.workflow_id == workflow.id).order_by(WorkflowNode.id)
    return db.session.scalars(query).all()


def get(slug: str, node_id: str, *, by: UserProfile) -> WorkflowNode:
    """One node of a workflow."""
    return _find(rights.find(slug, by).id, slug, node_id)


def create(slug: str, draft: NodeDraft, *, by: UserProfile) -> WorkflowNode:
    """Add a node, under the name it brings or one made from its type."""
    with editing(slug, by) as edit:
        taken = _names_in(edit)
        if len(taken) >= MOST_NODES:
            raise Invalid(f"A workflow has at most {MOST_NODES} nodes.")
        node_id = draft.node_id or names.node_id_for(draft.component_type, taken)
        if node_id in taken:
            raise AlreadyExists(f"The workflow '{slug}' already has a node '{node_id}'.")
        node_type = names.node_type(draft.component_type)
        _check_references(edit, {"subworkflow_id": draft.subworkflow_id, "code_block_id": draft.code_block_id})
        stored = node_config.check(node_type, draft.config)
        node = WorkflowNode(workflow_id=edit.workflow.id, **_columns(draft, node_id))
        node.config = node_config.row_for(node_type, stored)
        edit.session.add(node)
        edit.session.flush()
        trigger_keys.claim(edit, [node])
        edit.tell("node_created", node)
    return node


def update(
    slug: str,
    node_id: str,
    changes: Mapping[str, Any],
    *,
    by: UserProfile,
    precondition: Precondition = preconditions.none,
) -> WorkflowNode:
    """Change what is mentioned; `config` is merged setting by setting, and a new `node_id` is put on its edges too."""
    with editing(slug, by) as edit:
        node = _find(edit.workflow.id, slug, node_id)
        precondition(node)
        _refuse_other_type(node, changes)
        _check_references(edit, {name: changes.get(name) for name in ("subworkflow_id", "code_block_id")})
        if "config" in changes:
            node_type = names.node_type(node.component_type)
            wanted = node_config.merged(node.config, changes["config"])
            secrets, is_waiting = node_config.secrets_of(node.config), node_config.awaits_secrets(node.config)
            stored = node_config.check(node_type, wanted, secrets, may_lack_secrets=is_waiting)
            stored.put_on(node.config, node_type.version)
            edit.session.flush()
            trigger_keys.claim(edit, [node])
        if changes.get("node_id", node_id) != node_id:
            _rename(edit, node, changes["node_id"])
        for name in NODE_FIELDS:
            if name in changes:
                setattr(node, name, changes[name])
        node.updated_at = clock.now()
        edit.tell("node_updated", node)
    return node


def delete(slug: str, node_id: str, *, by: UserProfile, precondition: Precondition = preconditions.none) -> None:
    """Take a node away, and the edges at it."""
    with editing(slug, by) as edit:
        node = _find(edit.workflow.id, slug, node_id)
        precondition(node)
        for edge in _edges_at(edit, node_id):
            edit.tell("edge_deleted", {"id": edge.id})
            edit.session.delete(edge)
        edit.tell("node_deleted", {"id": node.id, "node_id": node_id})
        edit.session.delete(node)


def _find(workflow_id: int, slug: str, node_id: str) -> WorkflowNode:
    query = select(WorkflowNode).where(WorkflowNode.workflow_id == workflow_id, WorkflowNode.node_id == node_id)
    node = db.session.scalar(query) if names.NODE_ID.fullmatch(node_id) else None
    if node is None:
        known = db.session.scalars(select(WorkflowNode.node_id).where(WorkflowNode.workflow_id == workflow_id))
        hint = names.did_you_mean(node_id, known)
        raise NotFound(f"The workflow '{slug}' has no node '{node_id[:100]}'.{hint}")
    return node


def _names_in(edit: Edit) -> set[str]:
    query = select(WorkflowNode.node_id).where(WorkflowNode.workflow_id == edit.workflow.id)
    return set(edit.session.scalars(query))


def _columns(draft: NodeDraft, node_id: str) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in NODE_FIELDS} | {"node_id": node_id}


def _refuse_other_type(node: WorkflowNode, changes: Mapping[str, Any]) -> None:
    if changes.get("component_type", node.component_type) != node.component_type:
        message = f"'{node.node_id}' is a {node.component_type}; to have another type, delete it and add a new node."
        raise Invalid(message, {"component_type": [message]})


def _check_references(edit: Edit, ids: Mapping[str, int | None]) -> None:
    errors = require_visible({"subworkflow_id": ids["subworkflow_id"]}, edit.by)
    if ids["code_block_id"] is not None:
        errors["code_block_id"] = [f"There is no code block with the id {ids['code_block_id']}."]
    refuse(errors)


def _rename(edit: Edit, node: WorkflowNode, node_id: str) -> None:
    if node_id in _names_in(edit):
        raise AlreadyExists(f"The workflow '{edit.workflow.slug}' already has a node '{node_id}'.")
    for edge in _edges_at(edit, node.node_id):
        _put_new_name(edge, node.node_id, node_id)
        edit.tell("edge_updated", edge)


def _put_new_name(edge: WorkflowEdge, old: str, new: str) -> None:
    if edge.source_node_id == old:
        edge.source_node_id = new
    if edge.target_node_id == old:
        edge.target_node_id = new
        if edge.condition_mapping:
            mapping = edge.condition_mapping
            edge.condition_mapping = {route: new if end == old else end for route, end in mapping.items()}
    edge.updated_at = clock.now()


def _edges_at(edit: Edit, node_id: str) -> Sequence[WorkflowEdge]:
    at_an_end: ColumnElement[bool] = or_(WorkflowEdge.source_node_id == node_id, WorkflowEdge.target_node_id == node_id)
    query = select(WorkflowEdge).where(WorkflowEdge.workflow_id == edit.workflow.id, at_an_end)
    return edit.session.scalars(query.order_by(WorkflowEdge.id)).all()


def count(workflow_ids: Sequence[int]) -> dict[int, int]:
    """How many nodes each of these workflows has."""
    query = select(WorkflowNode.workflow_id, func.count()).where(WorkflowNode.workflow_id.in_(workflow_ids))
    return {row[0]: row[1] for row in db.session.execute(query.group_by(WorkflowNode.workflow_id))}
