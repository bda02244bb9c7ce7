"""Limits of tenants, scopes and identities of API keys, readers of documents."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Before there were scopes every key could do all of this.
_EARLIER_SCOPES = '["answer", "collections.read", "collections.write", "documents.all", "documents.read", "documents.write", "search"]'


def upgrade() -> None:
    """Apply."""
    op.add_column("tenants", sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()))
    for name in ("queries_per_s", "documents_per_s", "tokens_per_s", "weight"):
        op.add_column("tenants", sa.Column(name, sa.Float))
    for name in ("documents_max", "bytes_max"):
        op.add_column("tenants", sa.Column(name, sa.BigInteger))
    scopes = sa.text(f"'{_EARLIER_SCOPES}'")
    op.add_column("api_keys", sa.Column("scopes", sa.JSON, nullable=False, server_default=scopes))
    op.add_column("api_keys", sa.Column("identities", sa.JSON, nullable=False, server_default=sa.text("'[]'")))
    op.add_column("api_keys", sa.Column("expires_at_s", sa.Float))
    op.add_column("api_keys", sa.Column("last_used_at_s", sa.Float))
    op.add_column("revisions", sa.Column("readers", sa.Text, nullable=False, server_default=""))
