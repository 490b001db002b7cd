"""The wish to run a large execution again is stored until a worker has copied what is reused."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    with op.batch_alter_table("workflow_executions") as executions:
        executions.add_column(sa.Column("retry_wish", sa.Text(), nullable=True))


def downgrade() -> None:
    """What is still only a wish is cancelled: without it, nobody would know what to run again."""
    op.execute(
        "UPDATE workflow_executions SET status = 'cancelled', completed_at = created_at "
        "WHERE retry_wish IS NOT NULL AND status = 'pending'"
    )
    with op.batch_alter_table("workflow_executions") as executions:
        executions.drop_column("retry_wish")
