"""Requests for another encoder, and what an encoder read of a text that is longer than it takes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0010"
branch_labels = None
depends_on = None

_CUT = sa.text("cut IS NOT NULL")


def upgrade() -> None:
    """Takes the schema to this revision."""
    op.create_table(
        "encoder_requests",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("choice", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("accept", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_encoder_requests")),
        sa.UniqueConstraint("id", name=op.f("uq_encoder_requests_id")),
        sqlite_autoincrement=True,
    )
    op.add_column("embeddings", sa.Column("cut", sa.String(length=64), nullable=True))
    op.create_index(
        "ix_embeddings_cut",
        "embeddings",
        ["encoder_digest", "cut"],
        unique=False,
        sqlite_where=_CUT,
        postgresql_where=_CUT,
    )


def downgrade() -> None:
    """Takes it back."""
    op.drop_index("ix_embeddings_cut", table_name="embeddings")
    op.drop_column("embeddings", "cut")
    op.drop_table("encoder_requests")
