"""Where the steps of a workflow run."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("workflows") as workflows:
        workflows.add_column(sa.Column("placement", sa.String(10), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("workflows") as workflows:
        workflows.drop_column("placement")
