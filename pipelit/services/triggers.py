"""Outside events and the triggers that answer to them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from pipelit.extensions import db
from pipelit.models import ComponentConfig, Workflow, WorkflowExecution, WorkflowNode
from pipelit.nodes import registry
from pipelit.nodes.base import TriggerEvent, TriggerNode
from pipelit.services import executions, node_config

# Put together once: every webhook that is called asks this.
_MATCHING = (
    select(WorkflowNode.node_id, ComponentConfig, Workflow)
    .join(ComponentConfig, WorkflowNode.component_config_id == ComponentConfig.id)
    .join(Workflow, WorkflowNode.workflow_id == Workflow.id)
    .where(ComponentConfig.trigger_key == bindparam("key"))
    .where(ComponentConfig.component_type.in_(bindparam("types", expanding=True)))
    .where(Workflow.is_active, Workflow.deleted_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class Match:
    """A trigger of an active workflow that answers to an event; `config` is of the type's own configuration class."""

    workflow: Workflow
    node_id: str
    type: TriggerNode[Any]
    config: Any


def matching(kind: str, key: str) -> list[Match]:
    """The triggers of active workflows that events of a kind find by a key; whoever has the highest priority first.

    The rows are detached: the transaction that starts an execution would otherwise read them once more.
    """
    types = {known.type: known for known in registry.triggers(kind)}
    found = [
        Match(workflow, node_id, types[row.component_type], _configured(types[row.component_type], row))
        for node_id, row, workflow in db.session.execute(_MATCHING, {"key": key, "types": list(types)})
    ]
    db.session.expunge_all()
    return sorted(found, key=lambda match: -getattr(match.config, "priority", 0))


def start(match: Match, event: TriggerEvent, *, execution_id: str | None = None) -> WorkflowExecution:
    """Run the workflow of a trigger that an event is meant for. What is returned is stored: it will run."""
    return executions.begin(match.workflow, match.node_id, event, execution_id=execution_id, config=match.config)


def _configured(node_type: TriggerNode[Any], row: ComponentConfig) -> Any:
    return node_type.configure(registry.current_values(row) | node_config.secrets_of(row))
