"""Jobs, idempotency records, and claims that know their job."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

GENERATION = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _id(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Apply."""
    op.add_column("claims", sa.Column("job", sa.String(32), nullable=False, server_default=""))
    op.create_index("ix_claims_job", "claims", ["job"])
    op.create_table(
        "jobs",
        sa.Column("number", GENERATION, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("collection", _id(63), nullable=False),
        sa.Column("document", _id(512), nullable=False),
        sa.Column("blob", sa.String(256), nullable=False),
        sa.Column("blob_bytes", sa.BigInteger, nullable=False),
        sa.Column("fields", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("due_at_s", sa.Float),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("chunks_total", sa.Integer, nullable=False),
        sa.Column("chunks_done", sa.Integer, nullable=False),
        sa.Column("chunks_cached", sa.Integer, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("generation", GENERATION, nullable=False),
        sa.Column("unchanged", sa.Boolean, nullable=False),
        sa.Column("created_at_s", sa.Float, nullable=False),
        sa.Column("updated_at_s", sa.Float, nullable=False),
        sa.Column("ended_at_s", sa.Float),
        sa.PrimaryKeyConstraint("number", name="pk_jobs"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_jobs_tenants"),
    )
    op.create_index("ix_jobs_id", "jobs", ["id"], unique=True)
    op.create_index("ix_jobs_operation", "jobs", ["tenant", "operation"])
    op.create_index("ix_jobs_blob", "jobs", ["blob"])
    op.create_index("ix_jobs_due", "jobs", ["tenant", "due_at_s", "number"])
    op.create_index("ix_jobs_document", "jobs", ["tenant", "collection", "document", "number"])
    op.create_index("ix_jobs_ended", "jobs", ["ended_at_s"])
    op.create_index("ix_jobs_holder", "jobs", ["holder"])
    op.create_table(
        "idempotency",
        sa.Column("tenant", _id(63), nullable=False),
        sa.Column("request_id", _id(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("expires_at_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "request_id", name="pk_idempotency"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_idempotency_tenants"),
    )
    op.create_index("ix_idempotency_expires_at_s", "idempotency", ["expires_at_s"])
