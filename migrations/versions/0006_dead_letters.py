"""Dead letters are found without reading the other samples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0008"
branch_labels = None
depends_on = None

_DEAD = sa.text("state = 'dead'")


def upgrade() -> None:
    """Takes the schema to this revision."""
    op.create_index(
        "ix_samples_dead", "samples", ["seq"], unique=False, sqlite_where=_DEAD, postgresql_where=_DEAD
    )


def downgrade() -> None:
    """Takes it back."""
    op.drop_index("ix_samples_dead", table_name="samples")
