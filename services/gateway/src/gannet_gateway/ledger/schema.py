"""The ledger's tables. A change here needs a migration beside it; a test compares the two."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
    text,
)


# Ids sort by their bytes on both engines: a page of a list continues after the last id, whatever the database's locale.
def _id(length: int) -> String:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


EARLIER_SCOPES = '["answer", "collections.read", "collections.write", "documents.all", "documents.read", "documents.write", "search"]'

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
    Column("disabled", Boolean, nullable=False, server_default=false()),
    # Null leaves a limit to the configuration; 0 means none.
    Column("queries_per_s", Float),
    Column("documents_per_s", Float),
    Column("tokens_per_s", Float),
    Column("documents_max", BigInteger),
    Column("bytes_max", BigInteger),
    Column("weight", Float),
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
    # What it may do, and who it reads as, as JSON lists. Keys from before there were scopes may do what every key could.
    Column("scopes", JSON, nullable=False, server_default=text(f"'{EARLIER_SCOPES}'")),
    Column("identities", JSON, nullable=False, server_default=text("'[]'")),
    Column("expires_at_s", Float),  # null: never
    Column("last_used_at_s", Float),  # to the hour
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
    Column("document_languages", JSON, nullable=False, server_default=text("'[]'")),  # others that documents are in
    Column("rerank", Boolean),  # null leaves it to the server
    Column("cache_results", Boolean),  # likewise
    Column("cache_ttl_s", Float),  # likewise
    Column("embedding_model", String(200), nullable=False),
    Column("embedding_model_digest", String(64), nullable=False),
    Column("dim", Integer, nullable=False),
    Column("generation", GENERATION, nullable=False),
    Column("gen_floor", GENERATION, nullable=False),  # the oldest generation that may be read
    Column("floor_raised_at_s", Float, nullable=False),
    Column("cache_epoch", GENERATION, nullable=False),  # part of every cache key; an erasure raises it
    Column("created_at_s", Float, nullable=False),
    Column("generators", JSON, nullable=False, server_default=text("'[]'")),  # names; none leaves it to the server
    # Set first when a collection is deleted, so that a crash is finished later.
    Column("deleting", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    ForeignKeyConstraint(["tenant"], ["tenants.id"]),
)

# A revision is visible at generation g when gen_from <= g < gen_to, exactly as its passages are. What has gen_from or gen_to above the
# collection's generation belongs to the open publish.
revisions = Table(
    "revisions",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("document", _id(512), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("attempt", String(32), nullable=False),  # names its passages and its text
    Column("gen_from", GENERATION, nullable=False),
    Column("gen_to", GENERATION, nullable=False),
    Column("title", String(1024), nullable=False),
    Column("mime_type", String(100), nullable=False),
    Column("metadata", JSON, nullable=False),
    # Who may read it, each between line ends: "\nuser:ann\ngroup:eng\n"; empty means everyone in the tenant.
    Column("readers", Text, nullable=False, server_default=""),
    Column("language", String(8), nullable=False, server_default=""),  # empty: the collection's
    Column("text_bytes", Integer, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("content_sha256", String(64), nullable=False),
    Column("fingerprint", String(64), nullable=False),  # sha256 over all that determines the stored passages
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
    Column("retired_at_s", Float),  # null while it is the newest
    Column("collected", Boolean, nullable=False),  # its passages are gone
    PrimaryKeyConstraint("tenant", "collection", "document", "revision"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
    Index("ix_revisions_gen_from", "tenant", "collection", "gen_from"),
    Index("ix_revisions_gen_to", "tenant", "collection", "gen_to"),
    Index("ix_revisions_retired", "collected", "retired_at_s"),
)

claims = Table(
    "claims",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("document", _id(512), nullable=False),
    Column("attempt", String(32), nullable=False),
    Column("purpose", String(8), nullable=False),
    Column("holder", String(32), nullable=False),  # a new one with every take-over, so that whoever lost it can tell
    Column("lease_until_s", Float, nullable=False),
    Column("publish_generation", GENERATION),  # set once it is part of a publish, which nobody takes back
    Column("job", String(32), nullable=False),  # ended by that publish; empty where nobody asked for a job
    # One writer a document at a time.
    PrimaryKeyConstraint("tenant", "collection", "document"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
    Index("ix_claims_holder", "holder"),
    Index("ix_claims_job", "job"),
)

publishes = Table(
    "publishes",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("generation", GENERATION, nullable=False),  # the one that it makes; 0 for the erasure of the collection
    Column("holder", String(32), nullable=False),
    Column("lease_until_s", Float, nullable=False),
    # One publisher a collection at a time.
    PrimaryKeyConstraint("tenant", "collection"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
)

conversations = Table(
    "conversations",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("id", _id(32), nullable=False),
    Column("owner", String(512), nullable=False),  # the user that the credentials name; empty where they name none
    Column("title", String(200), nullable=False),
    Column("turn_count", Integer, nullable=False),
    Column("text_bytes", Integer, nullable=False),  # of all questions and answers
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "collection", "id"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
    Index("ix_conversations_owner", "tenant", "collection", "owner", "id"),
)

turns = Table(
    "turns",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("conversation", _id(32), nullable=False),
    Column("ordinal", Integer, nullable=False),  # from 1
    Column("answer_id", String(32), nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("finish_reason", String(40), nullable=False),
    Column("generation", GENERATION, nullable=False),
    Column("created_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "collection", "conversation", "ordinal"),
    ForeignKeyConstraint(
        ["tenant", "collection", "conversation"],
        ["conversations.tenant", "conversations.collection", "conversations.id"],
    ),
)

feedback = Table(
    "feedback",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("id", _id(48), nullable=False),  # sorts by time
    Column("owner", String(512), nullable=False),
    Column("answer_id", String(32), nullable=False),  # one of the two is empty
    Column("passage", String(1024), nullable=False),
    Column("rating", String(16), nullable=False),
    Column("comment", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "collection", "id"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
)

# Versions never change: an answer that names one can be made again.
prompts = Table(
    "prompts",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("id", _id(63), nullable=False),
    Column("version", Integer, nullable=False),  # from 1
    Column("system", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "collection", "id", "version"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
)

# One accepted document. What ended stays until its operation is deleted or expires.
jobs = Table(
    "jobs",
    metadata,
    Column("number", GENERATION, primary_key=True, autoincrement=True),  # the order of acceptance
    Column("id", String(32), nullable=False),
    Column("operation", String(32), nullable=False),  # what callers see; an import's jobs share one
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),  # no foreign key: what became of it outlives the collection
    Column("document", _id(512), nullable=False),
    Column("blob", String(256), nullable=False),  # names the uploaded bytes; empty once they are deleted
    Column("blob_bytes", BigInteger, nullable=False),
    Column("fields", JSON, nullable=False),  # what the caller said of the document
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("holder", String(32), nullable=False),  # the gateway at work on it, if any
    # When it may be claimed: at once, after a pause, or when its holder's lease runs out. Null once it has ended.
    Column("due_at_s", Float),
    Column("cancelled", Boolean, nullable=False),  # somebody asked for its end
    Column("chunks_total", Integer, nullable=False),
    Column("chunks_done", Integer, nullable=False),
    Column("chunks_cached", Integer, nullable=False),
    Column("error", JSON),
    Column("revision", Integer, nullable=False),
    Column("generation", GENERATION, nullable=False),
    Column("unchanged", Boolean, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
    Column("ended_at_s", Float),
    ForeignKeyConstraint(["tenant"], ["tenants.id"]),
    Index("ix_jobs_id", "id", unique=True),
    Index("ix_jobs_operation", "tenant", "operation"),
    Index("ix_jobs_blob", "blob"),
    Index("ix_jobs_due", "tenant", "due_at_s", "number"),
    Index("ix_jobs_document", "tenant", "collection", "document", "number"),
    Index("ix_jobs_ended", "ended_at_s"),
    Index("ix_jobs_holder", "holder"),
)

# Requests that may come again: the same id with the same content is the same operation.
idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("request_id", _id(64), nullable=False),
    Column("digest", String(64), nullable=False),  # sha256 over all that was asked for
    Column("operation", String(32), nullable=False),
    Column("expires_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "request_id"),
    ForeignKeyConstraint(["tenant"], ["tenants.id"]),
    Index("ix_idempotency_expires_at_s", "expires_at_s"),
)

sources = Table(
    "sources",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("id", _id(63), nullable=False),
    Column("directory", String(4096), nullable=False),
    Column("url", String(2048), nullable=False),
    Column("include", JSON, nullable=False),
    Column("mirror", Boolean, nullable=False),
    Column("cron", String(100), nullable=False),
    Column("interval_s", Integer, nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("next_run_at_s", Float),  # null until somebody asks
    Column("holder", String(32), nullable=False),  # the gateway that runs it, or empty
    Column("lease_until_s", Float),
    Column("last_run", JSON),
    PrimaryKeyConstraint("tenant", "collection", "id"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
    Index("ix_sources_next_run_at_s", "next_run_at_s"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("id", _id(63), nullable=False),
    Column("url", String(2048), nullable=False),
    Column("receiver", String(300), nullable=False),  # scheme, host and port of the url: what attempts are bounded by
    Column("secret", String(100), nullable=False),  # as its receiver has it; a signature needs the secret itself
    Column("disabled", Boolean, nullable=False),
    Column("disabled_reason", String(300), nullable=False),
    Column("created_at_s", Float, nullable=False),
    PrimaryKeyConstraint("tenant", "collection", "id"),
    ForeignKeyConstraint(["tenant", "collection"], ["collections.tenant", "collections.id"]),
)

# One event for one webhook. No foreign key: whoever writes one has locked the webhook, and whoever deletes that deletes these after it.
deliveries = Table(
    "deliveries",
    metadata,
    Column("number", GENERATION, primary_key=True, autoincrement=True),
    Column("tenant", _id(63), nullable=False),
    Column("collection", _id(63), nullable=False),
    Column("webhook", _id(63), nullable=False),
    Column("event", String(32), nullable=False),  # the same for every webhook and in every attempt
    Column("event_type", String(40), nullable=False),
    Column("body", Text, nullable=False),  # what is signed and posted, byte for byte
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),  # since it was queued
    Column("holder", String(32), nullable=False),  # the attempt in work, if any
    # When it may be claimed: at once, after a pause, or when its holder's lease runs out. Null once it has ended.
    Column("due_at_s", Float),
    Column("status_code", Integer, nullable=False),  # of the last attempt; 0 where there was no reply
    Column("error", String(300), nullable=False),  # likewise: why it failed
    Column("created_at_s", Float, nullable=False),
    Column("queued_at_s", Float, nullable=False),  # when it was made, or asked for again
    Column("ended_at_s", Float),
    Index("ix_deliveries_webhook", "tenant", "collection", "webhook", "state", "number"),
    Index("ix_deliveries_due", "tenant", "collection", "webhook", "due_at_s", "number"),
    Index("ix_deliveries_ended_at_s", "ended_at_s"),
)
