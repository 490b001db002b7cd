"""Questions with forms and approvers; what started an execution, and what is still to be done after it

Revision 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("workflow_executions") as table:
        table.add_column(sa.Column("parent_step", sa.String(600), nullable=True))
        table.add_column(sa.Column("depth", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("needs_follow_up", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("error_node_id", sa.String(100), nullable=True))
    with op.batch_alter_table("workflow_executions") as table:
        table.alter_column("depth", existing_type=sa.Integer(), existing_nullable=False, server_default=None)
        table.alter_column("needs_follow_up", existing_type=sa.Boolean(), existing_nullable=False, server_default=None)
    op.create_index(
        "ix_workflow_executions_needs_follow_up",
        "workflow_executions",
        ["completed_at"],
        unique=False,
        postgresql_where=sa.text("needs_follow_up"),
        sqlite_where=sa.text("needs_follow_up"),
    )
    with op.batch_alter_table("pending_tasks") as table:
        table.add_column(sa.Column("form", sa.JSON(), nullable=True))
    op.create_table(
        "pending_task_approvers",
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("username", sa.String(150), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["pending_tasks.task_id"],
            name=op.f("fk_pending_task_approvers_task_id_pending_tasks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", "username", name=op.f("pk_pending_task_approvers")),
    )
    op.create_index(op.f("ix_pending_task_approvers_username"), "pending_task_approvers", ["username"], unique=False)


def downgrade() -> None:
    op.drop_table("pending_task_approvers")
    with op.batch_alter_table("pending_tasks") as table:
        table.drop_column("form")
    op.drop_index("ix_workflow_executions_needs_follow_up", table_name="workflow_executions")
    with op.batch_alter_table("workflow_executions") as table:
        for name in ("error_node_id", "needs_follow_up", "depth", "parent_step"):
            table.drop_column(name)
