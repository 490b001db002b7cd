"""Outside events and the triggers that answer to them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, cast

from flask import current_app
from sqlalchemy import Table, bindparam, select
from sqlalchemy.orm import Session

from pipelit.engine.cache import Recent
from pipelit.extensions import db
from pipelit.models import ComponentConfig, Workflow, WorkflowExecution, WorkflowNode
from pipelit.nodes import registry
from pipelit.nodes.base import TriggerEvent, TriggerNode
from pipelit.services import executions, node_config

# Put together once, and without the rows' classes: every webhook that is called asks this.
_WORKFLOWS, _NODES, _CONFIGS = (cast(Table, model.__table__) for model in (Workflow, WorkflowNode, ComponentConfig))
_MATCHING = (
    select(_WORKFLOWS.c.id, _WORKFLOWS.c.revision, _WORKFLOWS.c.updated_at, _NODES.c.node_id)
    .join_from(_NODES, _CONFIGS, _NODES.c.component_config_id == _CONFIGS.c.id)
    .join(_WORKFLOWS, _NODES.c.workflow_id == _WORKFLOWS.c.id)
    .where(_CONFIGS.c.trigger_key == bindparam("key"))
    .where(_CONFIGS.c.component_type.in_(bindparam("types", expanding=True)))
    .where(_WORKFLOWS.c.is_active, _WORKFLOWS.c.deleted_at.is_(None))
)
KEPT = 512
EXTENSION = "pipelit.triggers"


class Place(NamedTuple):
    """Where a trigger stands, in which state of its workflow: every change of one changes the revision or the time."""

    workflow_id: int
    revision: int
    updated_at: datetime
    node_id: str


@dataclass(frozen=True, slots=True)
class Match:
    """A trigger of an active workflow that answers to an event; `config` is of the type's own configuration class."""

    workflow: Workflow
    node_id: str
    type: TriggerNode[Any]
    config: Any


def matching(kind: str, key: str) -> list[Match]:
    """The triggers of active workflows that events of a kind find by a key; whoever has the highest priority first.

    The rows are detached, and may be shared with others who ask.
    """
    types = [known.type for known in registry.triggers(kind)]
    with db.engine.connect() as connection:
        places = connection.execute(_MATCHING, {"key": key, "types": types}).all()
    found = [match for place in places if (match := _recent().get(Place(*place)) or _read(Place(*place)))]
    return sorted(found, key=lambda match: -getattr(match.config, "priority", 0))


def start(
    match: Match, event: TriggerEvent, *, execution_id: str | None = None, reply_to: str | None = None
) -> WorkflowExecution:
    """Run the workflow of a trigger that an event is meant for. What is returned is stored: it will run."""
    return executions.begin(
        match.workflow, match.node_id, event, execution_id=execution_id, reply_to=reply_to, config=match.config
    )


def _recent() -> Recent[Place, Match]:
    kept: Recent[Place, Match] = current_app.extensions.setdefault(EXTENSION, Recent(KEPT))
    return kept


def _read(place: Place) -> Match | None:
    """The trigger at a place, if it is still there; kept under the revision that was read."""
    query = (
        select(ComponentConfig, Workflow)
        .select_from(WorkflowNode)
        .join(ComponentConfig, WorkflowNode.component_config_id == ComponentConfig.id)
        .join(Workflow, WorkflowNode.workflow_id == Workflow.id)
        .where(Workflow.id == place.workflow_id, WorkflowNode.node_id == place.node_id)
    )
    with Session(db.engine) as session:
        found = session.execute(query).one_or_none()
        if found is None:
            return None
        row, workflow = found
        node_type = registry.get(row.component_type)
        assert isinstance(node_type, TriggerNode), "the types asked for are triggers"
        config = node_type.configure(registry.current_values(row) | node_config.secrets_of(row))
        session.expunge_all()
    current = place._replace(revision=workflow.revision, updated_at=workflow.updated_at)
    return _recent().put(current, Match(workflow, place.node_id, node_type, config))
