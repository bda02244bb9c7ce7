"""Conversations with their turns, feedback, and versioned prompts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

GENERATION = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _id(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _of_collection(table: str, *columns: sa.Column[object], key: tuple[str, ...]) -> None:
    op.create_table(
        table,
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("tenant", "collection", *key, name=f"pk_{table}"),
        sa.ForeignKeyConstraint(
            ["tenant", "collection"], ["collections.tenant", "collections.id"], name=f"fk_{table}_collections"
        ),
    )


def upgrade() -> None:
    """Apply."""
    _of_collection(
        "conversations",
        sa.Column("id", _id(32), nullable=False),
        sa.Column("owner", sa.String(512), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("turn_count", sa.Integer, nullable=False),
        sa.Column("text_bytes", sa.Integer, nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("updated_at_s", sa.Float, nullable=False),
        key=("id",),
    )
    op.create_index("ix_conversations_owner", "conversations", ["tenant", "collection", "owner", "id"])
    op.create_table(
        "turns",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("conversation", _id(32), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("answer_id", sa.String(32), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("finish_reason", sa.String(40), nullable=False),
        sa.Column("generation", GENERATION, nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", "conversation", "ordinal", name="pk_turns"),
        sa.ForeignKeyConstraint(
            ["tenant", "collection", "conversation"],
            ["conversations.tenant", "conversations.collection", "conversations.id"],
            name="fk_turns_conversations",
        ),
    )
    _of_collection(
        "feedback",
        sa.Column("id", _id(48), nullable=False),
        sa.Column("owner", sa.String(512), nullable=False),
        sa.Column("answer_id", sa.String(32), nullable=False),
        sa.Column("passage", sa.String(1024), nullable=False),
        sa.Column("rating", sa.String(16), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        key=("id",),
    )
    _of_collection(
        "prompts",
        sa.Column("id", _id(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        key=("id", "version"),
    )
