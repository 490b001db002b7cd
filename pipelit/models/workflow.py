"""Workflows, who shares them, and the immutable versions that executions ran on."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import ColumnElement, ForeignKey, Select, String, Text, UniqueConstraint, or_, select, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from pipelit import clock
from pipelit.models.types import Base, JsonValue, UtcDateTime
from pipelit.models.user import UserProfile

if TYPE_CHECKING:
    from pipelit.models.node import WorkflowEdge, WorkflowNode


class Workflow(Base):
    """`revision` grows with every change of the graph; `deleted_at` hides a workflow and keeps its executions.

    `placement` is where its steps run, `chained` or `local`; None leaves it to the installation. `durability` says
    whether results are in SQL soon (`async`) or before anything follows from them (`sync`).
    Of `max_concurrent` executions at once, those count together whose `serial_key` comes to the same; `overlap` says
    what becomes of more.
    """

    __tablename__ = "workflows"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str] = mapped_column(Text, default="")
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("user_profiles.id", ondelete="SET NULL"), index=True)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_public: Mapped[bool] = mapped_column(default=False)
    is_default: Mapped[bool] = mapped_column(default=False)
    tags: Mapped[list[str]] = mapped_column(JsonValue, default=list)
    error_handler_workflow_id: Mapped[int | None] = mapped_column(ForeignKey("workflows.id", ondelete="SET NULL"))
    input_schema: Mapped[dict[str, Any] | None] = mapped_column(JsonValue)
    output_schema: Mapped[dict[str, Any] | None] = mapped_column(JsonValue)
    max_execution_seconds: Mapped[int | None]
    placement: Mapped[str | None] = mapped_column(String(10))
    durability: Mapped[str] = mapped_column(String(5), default="async", server_default="async")
    max_concurrent: Mapped[int | None]
    overlap: Mapped[str] = mapped_column(String(20), default="queue")
    serial_key: Mapped[str | None] = mapped_column(String(1000))
    revision: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, index=True)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, onupdate=clock.now)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    owner: Mapped[UserProfile | None] = relationship()
    nodes: Mapped[list["WorkflowNode"]] = relationship(
        back_populates="workflow",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="WorkflowNode.id",
        foreign_keys="WorkflowNode.workflow_id",
    )
    edges: Mapped[list["WorkflowEdge"]] = relationship(
        back_populates="workflow", cascade="all, delete-orphan", passive_deletes=True, order_by="WorkflowEdge.id"
    )
    collaborators: Mapped[list["WorkflowCollaborator"]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="WorkflowCollaborator.id"
    )

    @classmethod
    def present(cls) -> Select[Self]:
        """Workflows that are not deleted."""
        return select(cls).where(cls.deleted_at.is_(None))

    @classmethod
    def visible_to(cls, user: UserProfile) -> Select[Self]:
        """Workflows that a user may read: their own, shared with them or public; all of them for an admin."""
        return cls.known_to(user).where(cls.deleted_at.is_(None))

    @classmethod
    def known_to(cls, user: UserProfile) -> Select[Self]:
        """Workflows whose executions a user may read: those they may read, and those that were deleted since."""
        if user.is_admin:
            return select(cls)
        shared = select(WorkflowCollaborator.workflow_id).where(WorkflowCollaborator.user_profile_id == user.id)
        return select(cls).where(or_(cls.owner_id == user.id, cls.is_public, cls.id.in_(shared)))

    @classmethod
    def may_be_run_by(cls, user: UserProfile) -> ColumnElement[bool]:
        """Whether a user may change and run a workflow: its owner, its editors, admins."""
        if user.is_admin:
            return true()
        mine = WorkflowCollaborator.user_profile_id == user.id
        edited = select(WorkflowCollaborator.workflow_id).where(mine, WorkflowCollaborator.role == "editor")
        return or_(cls.owner_id == user.id, cls.id.in_(edited))


class WorkflowCollaborator(Base):
    """`role` is `editor` (may change and run) or `viewer` (may look)."""

    __tablename__ = "workflow_collaborators"
    __table_args__ = (UniqueConstraint("workflow_id", "user_profile_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"))
    user_profile_id: Mapped[int] = mapped_column(ForeignKey("user_profiles.id", ondelete="CASCADE"), index=True)
    role: Mapped[str] = mapped_column(String(10), default="viewer")
    invited_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)

    user: Mapped[UserProfile] = relationship(lazy="joined")


class WorkflowVersion(Base):
    """The graph as it was at one revision, without secrets; made when the first execution runs on it."""

    __tablename__ = "workflow_versions"
    __table_args__ = (UniqueConstraint("workflow_id", "number"), UniqueConstraint("workflow_id", "revision"))

    id: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"))
    number: Mapped[int]
    revision: Mapped[int]
    graph: Mapped[dict[str, Any]] = mapped_column(JsonValue)
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_profiles.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
