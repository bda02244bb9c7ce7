"""The ledger's tables. A change here needs a migration beside it; a test compares the two."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)


# Ids sort by their bytes on both engines: a page of a list continues after the last id, whatever the database's locale.
def _id(length: int) -> String:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


GENERATION = Integer().with_variant(BigInteger(), "postgresql")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(column_0_label)s",
    }
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", _id(63), primary_key=True),
    Column("created_at_s", Float, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    # sha256 of the key, hex; the key itself is never stored.
    Column("digest", String(64), primary_key=True),
    Column("tenant", _id(63), nullable=False),
    Column("label", String(200), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("revoked_at_s", Float),
    ForeignKeyConstraint(["tenant"], ["tenants.id"]),
)

collections = Table(
    "collections",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("id", _id(63), nullable=False),
    Column("chunk_size", Integer, nullable=False),
    Column("chunk_overlap", Integer, nullable=False),
    Column("language", String(8), nullable=False),
    Column("rerank", Boolean),  # null leaves it to the server
    Column("embedding_model", String(200), nullable=False),
    Column("embedding_model_digest", String(64), nullable=False),
    Column("dim", Integer, nullable=False),
    Column("generation", GENERATION, nullable=False),
    Column("created_at_s", Float, nullable=False),
    # Set first when a collection is deleted, so that a crash is finished later.
    Column("deleting", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    ForeignKeyConstraint(["tenant"], ["tenants.id"]),
)

documents = Table(
    "documents",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("id", _id(512), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("title", String(1024), nullable=False),
    Column("mime_type", String(100), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("text_bytes", Integer, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("content_sha256", String(64), nullable=False),
    Column("fingerprint", String(64), nullable=False),  # sha256 over all that determines the stored passages
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "collection", "id"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
)

intents = Table(
    "intents",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("document", _id(512), nullable=False),
    Column("revision", Integer, nullable=False),  # the revision being written; 0 for a deletion
    Column("started_at_s", Float, nullable=False),
    # One writer a document at a time; what is left after a crash is finished or undone at the next start.
    PrimaryKeyConstraint("tenant", "collection", "document"),
)
