"""Whether results of a workflow's steps are in SQL before anything follows from them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("workflows") as workflows:
        workflows.add_column(sa.Column("durability", sa.String(5), nullable=False, server_default="async"))


def downgrade() -> None:
    with op.batch_alter_table("workflows") as workflows:
        workflows.drop_column("durability")
