"""Sources that documents are ingested from by schedule."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _id(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "sources",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("id", _id(63), nullable=False),
        sa.Column("directory", sa.String(4096), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("include", sa.JSON, nullable=False),
        sa.Column("mirror", sa.Boolean, nullable=False),
        sa.Column("cron", sa.String(100), nullable=False),
        sa.Column("interval_s", sa.Integer, nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("next_run_at_s", sa.Float),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("lease_until_s", sa.Float),
        sa.Column("last_run", sa.JSON),
        sa.PrimaryKeyConstraint("tenant", "collection", "id", name="pk_sources"),
        sa.ForeignKeyConstraint(
            ["tenant", "collection"], ["collections.tenant", "collections.id"], name="fk_sources_collections"
        ),
    )
    op.create_index("ix_sources_next_run_at_s", "sources", ["next_run_at_s"])
