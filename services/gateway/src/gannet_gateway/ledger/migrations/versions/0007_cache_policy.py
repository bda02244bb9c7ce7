"""Whether a collection's search replies are cached."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("collections", sa.Column("cache_results", sa.Boolean))
