"""How many executions of a workflow may be live at once."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("workflows") as workflows:
        workflows.add_column(sa.Column("max_concurrent", sa.Integer(), nullable=True))
        workflows.add_column(sa.Column("overlap", sa.String(20), nullable=False, server_default="queue"))
        workflows.add_column(sa.Column("serial_key", sa.String(1000), nullable=True))
    # The default is for the rows that were there; new ones say what they want.
    with op.batch_alter_table("workflows") as workflows:
        workflows.alter_column("overlap", existing_type=sa.String(20), server_default=None)
    with op.batch_alter_table("workflow_executions") as executions:
        executions.add_column(sa.Column("concurrency_group", sa.String(60), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("workflow_executions") as executions:
        executions.drop_column("concurrency_group")
    with op.batch_alter_table("workflows") as workflows:
        for column in ("serial_key", "overlap", "max_concurrent"):
            workflows.drop_column(column)
