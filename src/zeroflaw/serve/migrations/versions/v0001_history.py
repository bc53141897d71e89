"""The first tables: verdicts, their maps, pictures in the store, and what was not sent yet."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make tables and indexes."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    real, json = sa.Float(53), sa.JSON(none_as_null=True)
    op.create_table(
        "verdicts",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("detector", sa.String(200), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("logit", real),
        sa.Column("rank", real, nullable=False),
        sa.Column("score", real),
        sa.Column("threshold", real),
        sa.Column("anomalous", sa.Boolean),
        sa.Column("p_value", real),
        sa.Column("regions", json),
        sa.Column("record", json, nullable=False),
        sa.Column("milliseconds", real, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("label", sa.String(8)),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("corrected_at", sa.String(27)),
        sa.UniqueConstraint("source", "key", name="verdicts_source_key"),
        sqlite_autoincrement=True,
    )
    # Each order and the filters that leave few rows; text is looked for row by row.
    op.create_index("verdicts_time", "verdicts", ["time"])
    op.create_index("verdicts_digest", "verdicts", ["digest"])
    op.create_index("verdicts_name", "verdicts", ["name", "note"])
    op.create_index("verdicts_rank", "verdicts", ["rank", "id"])
    for first, other in (("detector", "anomalous"), ("anomalous", "detector")):
        op.create_index(f"verdicts_{first}", "verdicts", [first, "id"])
        # Rows of several filters are counted in this without a look at the table.
        op.create_index(f"verdicts_{first}_rank", "verdicts", [first, "rank", "id", "time", other])
    few = sa.text("corrected_at IS NOT NULL")
    for name, columns in (("corrected", ["id"]), ("corrected_rank", ["rank", "id"])):
        op.create_index(f"verdicts_{name}", "verdicts", columns, sqlite_where=few, postgresql_where=few)
    op.create_table(
        "maps",
        sa.Column("verdict", number, primary_key=True, autoincrement=False),
        sa.Column("png", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "pictures",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("last", sa.String(27), nullable=False),
    )
    op.create_index("pictures_last", "pictures", ["last"])
    op.create_table(
        "outbox",
        sa.Column("channel", sa.String(64), primary_key=True),
        sa.Column("verdict", number, primary_key=True, autoincrement=False),
    )


def downgrade() -> None:
    """Drop all of it."""
    for table in ("outbox", "pictures", "maps", "verdicts"):
        op.drop_table(table)
