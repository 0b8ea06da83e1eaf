"""What was chosen for the head of an exported task, kept with the import that brings it back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Takes the schema to this revision."""
    op.add_column("imports", sa.Column("regularisation", sa.Float(), nullable=True))
    op.add_column("imports", sa.Column("temperature", sa.Float(), nullable=True))


def downgrade() -> None:
    """Takes it back."""
    op.drop_column("imports", "temperature")
    op.drop_column("imports", "regularisation")
