"""What a version that the gate refused would have changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Takes the schema to this revision."""
    op.create_table(
        "refusals",
        sa.Column("version", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("emphasis", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_refusals_sample_id_samples")),
        sa.ForeignKeyConstraint(["version"], ["versions.number"], name=op.f("fk_refusals_version_versions")),
        sa.PrimaryKeyConstraint("version", "sample_id", "action", name=op.f("pk_refusals")),
    )
    op.create_index(op.f("ix_refusals_sample_id"), "refusals", ["sample_id"], unique=False)


def downgrade() -> None:
    """Takes it back."""
    op.drop_index(op.f("ix_refusals_sample_id"), table_name="refusals")
    op.drop_table("refusals")
