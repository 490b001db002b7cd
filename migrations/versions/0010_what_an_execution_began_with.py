"""An execution keeps its limit of time, its placement and its durability, whatever becomes of its workflow."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

LIVE = "status IN ('pending', 'running', 'interrupted')"
TAKEN = "(SELECT {column} FROM workflows WHERE workflows.id = workflow_executions.workflow_id)"


def upgrade() -> None:
    with op.batch_alter_table("workflow_executions") as executions:
        executions.add_column(sa.Column("max_execution_seconds", sa.Integer(), nullable=True))
        executions.add_column(sa.Column("placement", sa.String(10), nullable=True))
        executions.add_column(sa.Column("durability", sa.String(5), nullable=False, server_default="async"))
    # Those that have ended are not begun again.
    for column in ("max_execution_seconds", "placement", "durability"):
        op.execute(f"UPDATE workflow_executions SET {column} = {TAKEN.format(column=column)} WHERE {LIVE}")
    op.execute(f"UPDATE workflow_executions SET durability = 'sync' WHERE {LIVE} AND retried_from_step IS NOT NULL")


def downgrade() -> None:
    with op.batch_alter_table("workflow_executions") as executions:
        for column in ("durability", "placement", "max_execution_seconds"):
            executions.drop_column(column)
