"""Executions that are gone for everybody who asks, while what is left of them is deleted piece by piece."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

MARKED = "SELECT execution_id FROM workflow_executions WHERE removed_at IS NOT NULL"
PARTS = ("execution_logs", "step_checkpoints", "execution_events", "pending_tasks", "blobs")


def upgrade() -> None:
    with op.batch_alter_table("workflow_executions") as table:
        table.add_column(sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_workflow_executions_removed_at",
        "workflow_executions",
        ["removed_at"],
        unique=False,
        postgresql_where=sa.text("removed_at IS NOT NULL"),
        sqlite_where=sa.text("removed_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Delete what is marked: without the mark it would be there again, and half of it missing.

    Foreign keys are off while SQLite migrates, so what belongs to it is named.
    """
    named = "SELECT task_id FROM pending_tasks WHERE execution_id IN"
    op.execute(f"DELETE FROM pending_task_approvers WHERE task_id IN ({named} ({MARKED}))")
    for table in PARTS:
        op.execute(f"DELETE FROM {table} WHERE execution_id IN ({MARKED})")
    for column in ("parent_execution_id", "retried_from_id"):
        op.execute(f"UPDATE workflow_executions SET {column} = NULL WHERE {column} IN ({MARKED})")
    op.execute("DELETE FROM workflow_executions WHERE removed_at IS NOT NULL")
    op.drop_index("ix_workflow_executions_removed_at", table_name="workflow_executions")
    with op.batch_alter_table("workflow_executions") as table:
        table.drop_column("removed_at")
