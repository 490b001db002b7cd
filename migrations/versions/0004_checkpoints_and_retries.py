"""Checkpoints of steps, and executions that reuse the steps of others

Revision 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "step_checkpoints",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("execution_id", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=100), nullable=False),
        sa.Column("scope", sa.String(length=500), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["workflow_executions.execution_id"],
            name=op.f("fk_step_checkpoints_execution_id_workflow_executions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_checkpoints")),
        sa.UniqueConstraint(
            "execution_id",
            "node_id",
            "scope",
            "attempt",
            "kind",
            name=op.f("uq_step_checkpoints_execution_id_node_id_scope_attempt_kind"),
        ),
    )
    with op.batch_alter_table("workflow_executions") as table:
        table.add_column(sa.Column("retried_from_id", sa.String(length=36), nullable=True))
        table.add_column(sa.Column("retried_from_step", sa.String(length=600), nullable=True))
        table.create_foreign_key(
            op.f("fk_workflow_executions_retried_from_id_workflow_executions"),
            "workflow_executions",
            ["retried_from_id"],
            ["execution_id"],
            ondelete="SET NULL",
        )
        table.create_index(op.f("ix_workflow_executions_retried_from_id"), ["retried_from_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("workflow_executions") as table:
        table.drop_index(op.f("ix_workflow_executions_retried_from_id"))
        table.drop_constraint(
            op.f("fk_workflow_executions_retried_from_id_workflow_executions"), type_="foreignkey"
        )
        table.drop_column("retried_from_step")
        table.drop_column("retried_from_id")
    op.drop_table("step_checkpoints")
