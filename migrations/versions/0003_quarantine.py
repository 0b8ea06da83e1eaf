"""What put a sample into quarantine, whether somebody has decided about it, and what spoke against it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_QUARANTINED = sa.text("state = 'quarantined'")


def upgrade() -> None:
    """Takes the schema to this revision."""
    op.add_column("samples", sa.Column("quarantined_by", sa.String(length=16), nullable=True))
    op.add_column("samples", sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("samples", sa.Column("doubt", sa.JSON(), nullable=True))
    op.create_index(
        "ix_samples_quarantined",
        "samples",
        ["seq"],
        unique=False,
        sqlite_where=_QUARANTINED,
        postgresql_where=_QUARANTINED,
    )
    # Until now there were two ways in, and a roll-back says so itself.
    op.execute(
        "UPDATE samples SET quarantined_by = CASE WHEN reason LIKE 'roll-back to version %' THEN 'rollback' "
        "ELSE 'gate' END WHERE state = 'quarantined'"
    )


def downgrade() -> None:
    """Takes it back."""
    op.drop_index("ix_samples_quarantined", table_name="samples")
    for name in ("doubt", "reviewed_at", "quarantined_by"):
        op.drop_column("samples", name)
