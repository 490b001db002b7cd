"""Which process has a request that carries an `Idempotency-Key`, and which execution the request started."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    with op.batch_alter_table("idempotency_records") as records:
        records.add_column(sa.Column("holder", sa.String(300), nullable=True))
        records.add_column(sa.Column("execution_id", sa.String(36), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("idempotency_records") as records:
        records.drop_column("execution_id")
        records.drop_column("holder")
