"""Files of watched folders, and verdicts that a receiver refused."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table and the column."""
    op.add_column("outbox", sa.Column("parked", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "watched",
        sa.Column("place", sa.String(32), primary_key=True),
        sa.Column("file", sa.String(64), primary_key=True),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("watched")
    op.drop_column("outbox", "parked")
