"""The ledger of the first release: tenants, API keys, collections, documents, intents."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "tenants",
        sa.Column("id", _id(63), nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
    )
    op.create_table(
        "api_keys",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("revoked_at_s", sa.Float),
        sa.PrimaryKeyConstraint("digest", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_api_keys_tenants"),
    )
    op.create_table(
        "collections",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("id", _id(63), nullable=False),
        sa.Column("chunk_size", sa.Integer, nullable=False),
        sa.Column("chunk_overlap", sa.Integer, nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
        sa.Column("rerank", sa.Boolean),
        sa.Column("embedding_model", sa.String(200), nullable=False),
        sa.Column("embedding_model_digest", sa.String(64), nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("deleting", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name="pk_collections"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_collections_tenants"),
    )
    op.create_table(
        "documents",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("id", _id(512), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("title", sa.String(1024), nullable=False),
        sa.Column("mime_type", sa.String(100), nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("text_bytes", sa.Integer, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("updated_at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", "id", name="pk_documents"),
        sa.ForeignKeyConstraint(
            ["tenant", "collection"], ["collections.tenant", "collections.id"], name="fk_documents_collections"
        ),
    )
    op.create_table(
        "intents",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("document", _id(512), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("started_at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", "document", name="pk_intents"),
    )
