"""What outside events find triggers by: unique among the triggers of all active workflows."""

from collections.abc import Sequence

from sqlalchemy import false, or_, select

from pipelit.errors import AlreadyExists
from pipelit.models import ComponentConfig, Workflow, WorkflowNode
from pipelit.services import locks, rights
from pipelit.services.editing import Edit


def claim(edit: Edit, nodes: Sequence[WorkflowNode]) -> None:
    """Make sure that no other trigger answers to what these (flushed) nodes do. Raises `AlreadyExists`."""
    with_key = [node for node in nodes if node.config.trigger_key is not None]
    keyed = {node.config.trigger_key: node for node in with_key}
    if not keyed:
        return
    locks.hold(edit.session, locks.TRIGGER_KEYS)
    query = (
        select(WorkflowNode, Workflow)
        .join(ComponentConfig, WorkflowNode.component_config_id == ComponentConfig.id)
        .join(Workflow, WorkflowNode.workflow_id == Workflow.id)
        .where(ComponentConfig.trigger_key.in_(list(keyed)), Workflow.deleted_at.is_(None))
        .where(or_(Workflow.id == edit.workflow.id, Workflow.is_active if edit.workflow.is_active else false()))
    )
    for other, workflow in edit.session.execute(query):
        node = keyed[other.config.trigger_key]
        if other.component_type == node.component_type and other.id != node.id:
            raise AlreadyExists(f"'{other.config.trigger_key}' already belongs to {_place(edit, other, workflow)}.")


def _place(edit: Edit, node: WorkflowNode, workflow: Workflow) -> str:
    """A node as far as this user may know of it."""
    if workflow.id == edit.workflow.id:
        return f"the node '{node.node_id}'"
    is_visible = bool(rights.visible_ids([workflow.id], edit.by))
    return f"the node '{node.node_id}' of the workflow '{workflow.slug}'" if is_visible else "another workflow"
