"""Executions, what each of their steps did, and what they wait for a person to say."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from sqlalchemy import (
    ForeignKey,
    Index,
    LargeBinary,
    Numeric,
    Select,
    String,
    Text,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from pipelit import clock
from pipelit.models.types import Base, BigId, JsonText, JsonValue, UtcDateTime
from pipelit.models.workflow import Workflow, WorkflowVersion

LIVE = ("pending", "running", "interrupted")

TIMES = ("queued_ms", "resolve_ms", "run_ms", "waiting_ms", "commit_ms")
"""The kinds of time of an attempt, as columns of its row, in the order in which they pass."""


class CompiledPlan(Base):
    """A Plan by the hash of its content; many executions share one. `compiled_at` is when that was last done anew."""

    __tablename__ = "compiled_plans"

    hash: Mapped[str] = mapped_column(String(32), primary_key=True)
    plan: Mapped[str] = mapped_column(JsonText)
    compiled_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)


class WorkflowExecution(Base):
    """`trigger_output` is what the trigger gave by port: this row, its logs and its checkpoints make a rebuild.

    `parent_step` is the step of the parent that waits for this execution, if one does; `depth` counts the workflows
    that called one another to get here. `needs_follow_up` stays true until all that follows from the end is done: the
    parent told, awaited children stopped, error workflows started. An execution that reuses steps of another has
    `retried_from_step`: the step it begins with, as text, or its trigger; until what it reuses has been copied,
    `retry_wish` says what is to be run again. `max_execution_seconds`, `placement` and `durability` are those of the
    workflow when the execution was accepted; they hold to its end. Since `removed_at` it is gone for everybody who
    asks, and what is left of it is being deleted.
    """

    __tablename__ = "workflow_executions"
    __table_args__ = (
        Index("ix_workflow_executions_workflow_id_created_at", "workflow_id", "created_at"),
        Index("ix_workflow_executions_status_created_at", "status", "created_at"),
        # The migration limits it to rows that need a follow-up. Said here, `postgresql_where` would load that dialect,
        # 3 MB, into every process of an installation on SQLite.
        Index("ix_workflow_executions_needs_follow_up", "completed_at"),
        # Limited in the same way, to rows that are marked.
        Index("ix_workflow_executions_removed_at", "removed_at"),
    )

    execution_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"))
    workflow_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("workflow_versions.id", ondelete="SET NULL"), index=True
    )
    plan_hash: Mapped[str] = mapped_column(ForeignKey("compiled_plans.hash"), index=True)
    trigger_node_id: Mapped[str] = mapped_column(String(100))
    parent_execution_id: Mapped[str | None] = mapped_column(
        ForeignKey("workflow_executions.execution_id", ondelete="SET NULL"), index=True
    )
    parent_node_id: Mapped[str | None] = mapped_column(String(100))
    parent_step: Mapped[str | None] = mapped_column(String(600))
    depth: Mapped[int] = mapped_column(default=0)
    needs_follow_up: Mapped[bool] = mapped_column(default=False)
    retried_from_id: Mapped[str | None] = mapped_column(
        ForeignKey("workflow_executions.execution_id", ondelete="SET NULL"), index=True
    )
    retried_from_step: Mapped[str | None] = mapped_column(String(600))
    retry_wish: Mapped[str | None] = mapped_column(JsonText)
    user_profile_id: Mapped[int | None] = mapped_column(ForeignKey("user_profiles.id", ondelete="SET NULL"))
    concurrency_group: Mapped[str | None] = mapped_column(String(60))
    thread_id: Mapped[str | None] = mapped_column(String(255))
    max_execution_seconds: Mapped[int | None]
    placement: Mapped[str | None] = mapped_column(String(10))
    durability: Mapped[str] = mapped_column(String(5), default="async", server_default="async")
    status: Mapped[str] = mapped_column(String(15), default="pending")
    trigger: Mapped[str] = mapped_column(String(30), default="manual")
    trigger_payload: Mapped[Any] = mapped_column(JsonValue, nullable=True)
    trigger_output: Mapped[dict[str, Any]] = mapped_column(JsonValue, default=dict)
    final_output: Mapped[Any] = mapped_column(JsonValue, nullable=True)
    error_message: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(50))
    error_node_id: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, index=True)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    total_input_tokens: Mapped[int] = mapped_column(default=0)
    total_output_tokens: Mapped[int] = mapped_column(default=0)
    total_tokens: Mapped[int] = mapped_column(default=0)
    total_cost_usd: Mapped[Decimal] = mapped_column(Numeric(12, 6), default=Decimal(0))
    llm_calls: Mapped[int] = mapped_column(default=0)

    workflow: Mapped[Workflow] = relationship(lazy="joined", innerjoin=True)
    version: Mapped[WorkflowVersion | None] = relationship()
    logs: Mapped[list["ExecutionLog"]] = relationship(order_by="ExecutionLog.id", viewonly=True)

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def is_removed(self) -> bool:
        return self.removed_at is not None

    @property
    def wall_ms(self) -> float | None:
        """Milliseconds from start to end, to the microsecond; None while either is open."""
        if self.started_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.started_at) / timedelta(milliseconds=1)

    @property
    def duration_ms(self) -> int | None:
        """The same in whole milliseconds."""
        wall = self.wall_ms
        return None if wall is None else round(wall)

    @classmethod
    def active(cls, workflow: Workflow) -> Select[Self]:
        """Executions of a workflow that have not ended."""
        return select(cls).where(cls.workflow_id == workflow.id, cls.status.in_(LIVE))


class ExecutionLog(Base):
    """One row per attempt of a step that came to an end, and one per step that was skipped."""

    __tablename__ = "execution_logs"
    __table_args__ = (UniqueConstraint("execution_id", "node_id", "scope", "attempt"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("workflow_executions.execution_id", ondelete="CASCADE"))
    node_id: Mapped[str] = mapped_column(String(100))
    component_type: Mapped[str] = mapped_column(String(60))
    scope: Mapped[str] = mapped_column(String(500), default="")
    attempt: Mapped[int] = mapped_column(default=1)
    status: Mapped[str] = mapped_column(String(15))
    route: Mapped[str | None] = mapped_column(String(100))
    input: Mapped[str | None] = mapped_column(JsonText)
    output: Mapped[str | None] = mapped_column(JsonText)
    error: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(50))
    details: Mapped[str | None] = mapped_column("metadata", JsonText)
    queued_ms: Mapped[float | None]
    resolve_ms: Mapped[float | None]
    run_ms: Mapped[float | None]
    waiting_ms: Mapped[float | None]
    commit_ms: Mapped[float | None]
    duration_ms: Mapped[int | None]
    timestamp: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)

    @classmethod
    def times_of(cls, execution_id: str) -> Select[Any]:
        """The sums of an execution's times by kind."""
        sums = [func.sum(getattr(cls, name)).label(name) for name in TIMES]
        return select(*sums).where(cls.execution_id == execution_id)


class StepCheckpoint(Base):
    """What a step that has not ended did for good, and no log tells: its items, what it waits for, its release."""

    __tablename__ = "step_checkpoints"
    __table_args__ = (UniqueConstraint("execution_id", "node_id", "scope", "attempt", "kind"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("workflow_executions.execution_id", ondelete="CASCADE"))
    node_id: Mapped[str] = mapped_column(String(100))
    scope: Mapped[str] = mapped_column(String(500), default="")
    attempt: Mapped[int] = mapped_column(default=0)
    kind: Mapped[str] = mapped_column(String(20))
    content: Mapped[str | None] = mapped_column(JsonText)


class ExecutionEvents(Base):
    """The numbered events of an ended execution: zlib-compressed JSON, a list in the order of `seq`."""

    __tablename__ = "execution_events"

    execution_id: Mapped[str] = mapped_column(
        ForeignKey("workflow_executions.execution_id", ondelete="CASCADE"), primary_key=True
    )
    events: Mapped[bytes] = mapped_column(LargeBinary)


class PendingTask(Base):
    """What an execution waits for a person to decide."""

    __tablename__ = "pending_tasks"
    __table_args__ = (UniqueConstraint("execution_id", "step", "kind"),)

    task_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("workflow_executions.execution_id", ondelete="CASCADE"))
    step: Mapped[str] = mapped_column(String(600))
    node_id: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(20))
    prompt: Mapped[str | None] = mapped_column(Text)
    form: Mapped[list[Any] | None] = mapped_column(JsonValue)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    execution: Mapped[WorkflowExecution] = relationship(lazy="joined", innerjoin=True)


class PendingTaskApprover(Base):
    """A user who may answer a question although the workflow is not theirs to run."""

    __tablename__ = "pending_task_approvers"

    task_id: Mapped[str] = mapped_column(ForeignKey("pending_tasks.task_id", ondelete="CASCADE"), primary_key=True)
    username: Mapped[str] = mapped_column(String(150), primary_key=True, index=True)


class Blob(Base):
    """An output too large for the working state, which refers to it as `{"$blob": id}`."""

    __tablename__ = "blobs"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    execution_id: Mapped[str] = mapped_column(
        ForeignKey("workflow_executions.execution_id", ondelete="CASCADE"), index=True
    )
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
