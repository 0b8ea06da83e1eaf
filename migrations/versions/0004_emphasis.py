"""How many times its weight a sample counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Takes the schema to this revision."""
    op.add_column("samples", sa.Column("emphasis", sa.Float(), server_default="1", nullable=False))


def downgrade() -> None:
    """Takes it back."""
    op.drop_column("samples", "emphasis")
