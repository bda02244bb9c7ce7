"""Webhooks of collections, and the events that are delivered to them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _id(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "webhooks",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("id", _id(63), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("receiver", sa.String(300), nullable=False),
        sa.Column("secret", sa.String(100), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", sa.String(300), nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", "id", name="pk_webhooks"),
        sa.ForeignKeyConstraint(
            ["tenant", "collection"], ["collections.tenant", "collections.id"], name="fk_webhooks_collections"
        ),
    )
    op.create_table(
        "deliveries",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("webhook", _id(63), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("event_type", sa.String(40), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("due_at_s", sa.Float),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("error", sa.String(300), nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("queued_at_s", sa.Float, nullable=False),
        sa.Column("ended_at_s", sa.Float),
        sa.PrimaryKeyConstraint("number", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_webhook", "deliveries", ["tenant", "collection", "webhook", "state", "number"])
    op.create_index("ix_deliveries_due", "deliveries", ["tenant", "collection", "webhook", "due_at_s", "number"])
    op.create_index("ix_deliveries_ended_at_s", "deliveries", ["ended_at_s"])
