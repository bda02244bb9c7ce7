"""The generators that answer from a collection."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("collections", sa.Column("generators", sa.JSON, nullable=False, server_default=sa.text("'[]'")))
