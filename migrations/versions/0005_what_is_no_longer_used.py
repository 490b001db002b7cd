"""What is no longer used: indexes to find it by, and when a plan was last compiled

Deleting a plan or a version asks whether an execution refers to it, which went through all of them.

Revision 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = ("plan_hash", "workflow_version_id")


def upgrade() -> None:
    for column in COLUMNS:
        op.create_index(f"ix_workflow_executions_{column}", "workflow_executions", [column])
    with op.batch_alter_table("compiled_plans") as table:
        table.alter_column("created_at", new_column_name="compiled_at", existing_type=sa.DateTime(timezone=True))


def downgrade() -> None:
    with op.batch_alter_table("compiled_plans") as table:
        table.alter_column("compiled_at", new_column_name="created_at", existing_type=sa.DateTime(timezone=True))
    for column in reversed(COLUMNS):
        op.drop_index(f"ix_workflow_executions_{column}", "workflow_executions")
