"""Languages of documents, and how long a collection's replies are cached."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    languages = sa.Column("document_languages", sa.JSON, nullable=False, server_default=sa.text("'[]'"))
    op.add_column("collections", languages)
    op.add_column("collections", sa.Column("cache_ttl_s", sa.Float))
    op.add_column("revisions", sa.Column("language", sa.String(8), nullable=False, server_default=""))
