"""Nodes, edges, and the one table that holds the configuration of every node type."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from pipelit import clock
from pipelit.models.types import Base, EncryptedString, JsonValue, UtcDateTime
from pipelit.models.workflow import Workflow


class ComponentConfig(Base):
    """One row per node; each node type is an identity of this table, mapped from its declaration.

    `values` holds the settings as the author wrote them, `secrets` (a JSON object) those that are secret. What refers
    to another row is a column, so that the database keeps the reference true. `trigger_key` is what an outside event
    is found by (the path of a webhook).
    """

    __tablename__ = "component_configs"
    __mapper_args__ = {"polymorphic_on": "component_type", "polymorphic_identity": ""}

    id: Mapped[int] = mapped_column(primary_key=True)
    component_type: Mapped[str] = mapped_column(String(60), index=True)
    version: Mapped[int] = mapped_column(default=1)
    values: Mapped[dict[str, Any]] = mapped_column(JsonValue, default=dict)
    secrets: Mapped[str | None] = mapped_column(EncryptedString(20_000))
    trigger_key: Mapped[str | None] = mapped_column(String(255), index=True)
    system_prompt: Mapped[str | None] = mapped_column(Text)
    model_name: Mapped[str | None] = mapped_column(String(200))
    llm_credential_id: Mapped[int | None] = mapped_column(ForeignKey("credentials.id", ondelete="SET NULL"), index=True)
    credential_id: Mapped[int | None] = mapped_column(ForeignKey("credentials.id", ondelete="SET NULL"), index=True)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, onupdate=clock.now)


class _Identities(dict[str, Any]):
    """Rows whose node type is not installed any more load as plain `ComponentConfig`: unknown, not lost."""

    def __missing__(self, _key: str) -> Any:
        return ComponentConfig.__mapper__


_identities = _Identities(ComponentConfig.__mapper__.polymorphic_map)
ComponentConfig.__mapper__.polymorphic_map = _identities


def map_config(component_type: str) -> type[ComponentConfig]:
    """The mapped class of a node type's configuration, made on the first call."""
    if component_type not in _identities:
        name = "".join(part.capitalize() for part in component_type.split("_")) + "Config"
        type(name, (ComponentConfig,), {"__mapper_args__": {"polymorphic_identity": component_type}})
    mapped: type[ComponentConfig] = _identities[component_type].class_
    return mapped


class WorkflowNode(Base):
    """`node_id` is the name that edges and expressions use, unique within the workflow."""

    __tablename__ = "workflow_nodes"
    __table_args__ = (UniqueConstraint("workflow_id", "node_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"))
    node_id: Mapped[str] = mapped_column(String(100))
    label: Mapped[str | None] = mapped_column(String(255))
    component_type: Mapped[str] = mapped_column(String(60))
    component_config_id: Mapped[int] = mapped_column(
        ForeignKey("component_configs.id", ondelete="CASCADE"), unique=True
    )
    subworkflow_id: Mapped[int | None] = mapped_column(ForeignKey("workflows.id", ondelete="SET NULL"), index=True)
    code_block_id: Mapped[int | None]
    is_entry_point: Mapped[bool] = mapped_column(default=False)
    interrupt_before: Mapped[bool] = mapped_column(default=False)
    interrupt_after: Mapped[bool] = mapped_column(default=False)
    position_x: Mapped[int] = mapped_column(default=0)
    position_y: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, onupdate=clock.now)

    workflow: Mapped[Workflow] = relationship(back_populates="nodes", foreign_keys=[workflow_id])
    config: Mapped[ComponentConfig] = relationship(cascade="all, delete-orphan", single_parent=True, lazy="selectin")


class WorkflowEdge(Base):
    """Runs from one node of a workflow to another; `edge_label` says what flows, `condition_value` names a route."""

    __tablename__ = "workflow_edges"

    id: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"), index=True)
    source_node_id: Mapped[str] = mapped_column(String(100))
    target_node_id: Mapped[str] = mapped_column(String(100))
    edge_type: Mapped[str] = mapped_column(String(15), default="direct")
    edge_label: Mapped[str] = mapped_column(String(20), default="")
    condition_value: Mapped[str | None] = mapped_column(String(100))
    condition_mapping: Mapped[dict[str, Any] | None] = mapped_column(JsonValue)
    priority: Mapped[int] = mapped_column(default=0)
    source_port: Mapped[str | None] = mapped_column(String(100))
    target_port: Mapped[str | None] = mapped_column(String(100))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, onupdate=clock.now)

    workflow: Mapped[Workflow] = relationship(back_populates="edges")
