"""Where the time goes

The times of a step are kept to the microsecond, and each kind has a column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KINDS = ("resolve_ms", "run_ms", "waiting_ms", "commit_ms")


def upgrade() -> None:
    with op.batch_alter_table("execution_logs") as table:
        table.alter_column("queued_ms", existing_type=sa.Integer(), type_=sa.Double(), existing_nullable=True)
        for kind in KINDS:
            table.add_column(sa.Column(kind, sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("execution_logs") as table:
        for kind in KINDS:
            table.drop_column(kind)
        table.alter_column("queued_ms", existing_type=sa.Double(), type_=sa.Integer(), existing_nullable=True)
