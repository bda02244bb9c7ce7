"""Revisions that become visible by generation, claims with leases, publish intents."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

GENERATION = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
# Every document had one revision, visible at every generation; 9007199254740991 is "never". Their passages know no attempt.
_COPY = """
INSERT INTO revisions (tenant, collection, document, revision, attempt, gen_from, gen_to, title, mime_type, metadata, text_bytes,
    chunk_count, content_sha256, fingerprint, created_at_s, updated_at_s, collected)
SELECT tenant, collection, id, revision, '', 1, 9007199254740991, title, mime_type, metadata, text_bytes,
    chunk_count, content_sha256, fingerprint, created_at_s, updated_at_s, false
FROM documents
"""


def _id(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _collection_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant", "collection"], ["collections.tenant", "collections.id"], name=f"fk_{table}_collections"
    )


def upgrade() -> None:
    """Apply."""
    op.add_column("collections", sa.Column("gen_floor", GENERATION, nullable=False, server_default="1"))
    op.add_column("collections", sa.Column("floor_raised_at_s", sa.Float, nullable=False, server_default="0"))
    op.add_column("collections", sa.Column("cache_epoch", GENERATION, nullable=False, server_default="0"))
    op.create_table(
        "revisions",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("document", _id(512), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("attempt", sa.String(32), nullable=False),
        sa.Column("gen_from", GENERATION, nullable=False),
        sa.Column("gen_to", GENERATION, nullable=False),
        sa.Column("title", sa.String(1024), nullable=False),
        sa.Column("mime_type", sa.String(100), nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("text_bytes", sa.Integer, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("updated_at_s", sa.Float, nullable=False),
        sa.Column("retired_at_s", sa.Float),
        sa.Column("collected", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", "document", "revision", name="pk_revisions"),
        _collection_key("revisions"),
    )
    op.create_index("ix_revisions_gen_from", "revisions", ["tenant", "collection", "gen_from"])
    op.create_index("ix_revisions_gen_to", "revisions", ["tenant", "collection", "gen_to"])
    op.create_index("ix_revisions_retired", "revisions", ["collected", "retired_at_s"])
    op.execute(_COPY)
    op.drop_table("documents")
    op.drop_table("intents")
    op.create_table(
        "claims",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("document", _id(512), nullable=False),
        sa.Column("attempt", sa.String(32), nullable=False),
        sa.Column("purpose", sa.String(8), nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("lease_until_s", sa.Float, nullable=False),
        sa.Column("publish_generation", GENERATION),
        sa.PrimaryKeyConstraint("tenant", "collection", "document", name="pk_claims"),
        _collection_key("claims"),
    )
    op.create_index("ix_claims_holder", "claims", ["holder"])
    op.create_table(
        "publishes",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("generation", GENERATION, nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("lease_until_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", name="pk_publishes"),
        _collection_key("publishes"),
    )
