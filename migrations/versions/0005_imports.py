"""What was imported in one command, and which samples it brought."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_IMPORTED = sa.text("import_id IS NOT NULL")


def upgrade() -> None:
    """Takes the schema to this revision."""
    op.create_table(
        "imports",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("accept_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.add_column("samples", sa.Column("import_id", sa.String(length=64), nullable=True))
    op.create_index(
        "ix_samples_import_id_state",
        "samples",
        ["import_id", "state"],
        unique=False,
        sqlite_where=_IMPORTED,
        postgresql_where=_IMPORTED,
    )


def downgrade() -> None:
    """Takes it back."""
    op.drop_index("ix_samples_import_id_state", table_name="samples")
    op.drop_column("samples", "import_id")
    op.drop_table("imports")
