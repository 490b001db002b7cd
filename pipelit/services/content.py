"""Rows as plain JSON: what events carry, and what a document that leaves the installation holds."""

from datetime import UTC, datetime

from pipelit.models import Workflow, WorkflowEdge, WorkflowNode
from pipelit.nodes import registry
from pipelit.nodes.ports import Json
from pipelit.services import node_config
from pipelit.services.drafts import EDGE_FIELDS, NODE_FIELDS

TRAVELLING = (
    "name",
    "slug",
    "description",
    "tags",
    "input_schema",
    "output_schema",
    "max_execution_seconds",
    "placement",
    "durability",
    "max_concurrent",
    "overlap",
    "serial_key",
)
"""What a document says about the workflow itself: nothing that refers to other rows of this installation."""

WORKFLOW_FIELDS = (*TRAVELLING, "is_active", "is_public", "is_default", "error_handler_workflow_id")


def workflow_content(workflow: Workflow) -> dict[str, Json]:
    """A workflow without its graph."""
    fields: dict[str, Json] = {name: getattr(workflow, name) for name in ("id", *WORKFLOW_FIELDS, "revision")}
    return fields | {"updated_at": _utc(workflow.updated_at)}


def node_content(node: WorkflowNode) -> dict[str, Json]:
    """A node, its secrets masked."""
    fields: dict[str, Json] = {name: getattr(node, name) for name in ("id", *NODE_FIELDS)}
    return fields | {"config": node_config.shown(node.config), "updated_at": _utc(node.updated_at)}


def edge_content(edge: WorkflowEdge) -> dict[str, Json]:
    """An edge."""
    fields: dict[str, Json] = {name: getattr(edge, name) for name in ("id", *EDGE_FIELDS)}
    return fields | {"updated_at": _utc(edge.updated_at)}


def document(workflow: Workflow) -> dict[str, Json]:
    """A workflow as a file has it: without ids, times and secrets."""
    about: dict[str, Json] = {name: getattr(workflow, name) for name in TRAVELLING}
    return {
        "workflow": about,
        "nodes": [_without_secrets(node) for node in workflow.nodes],
        "edges": [{name: getattr(edge, name) for name in EDGE_FIELDS} for edge in workflow.edges],
    }


def _without_secrets(node: WorkflowNode) -> dict[str, Json]:
    fields: dict[str, Json] = {name: getattr(node, name) for name in NODE_FIELDS}
    known = registry.load().get(node.component_type)
    secret = known.secrets if known is not None else ()
    values = registry.current_values(node.config)
    return fields | {"config": {name: value for name, value in values.items() if name not in secret}}


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
