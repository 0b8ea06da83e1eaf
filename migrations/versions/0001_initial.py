"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Takes the schema to this revision."""
    _create_samples()
    _create_lineage()
    _create_predictions_and_embeddings()
    _create_events_keys_and_leases()


def _create_samples() -> None:
    """Labelled texts."""
    op.create_table(
        "samples",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_digest", sa.String(length=64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("prediction_id", sa.String(length=64), nullable=True),
        sa.Column("served_version", sa.BigInteger(), nullable=True),
        sa.Column("served_label", sa.Text(), nullable=True),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("learned_in_version", sa.BigInteger(), nullable=True),
        sa.Column("retract_requested", sa.Boolean(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_samples")),
        sa.UniqueConstraint("id", name=op.f("uq_samples_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_samples_queued",
        "samples",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_samples_retraction_pending",
        "samples",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("state = 'learned' AND retract_requested"),
        postgresql_where=sa.text("state = 'learned' AND retract_requested"),
    )
    op.create_index("ix_samples_task_state_label_seq", "samples", ["task", "state", "label", "seq"], unique=False)
    op.create_index("ix_samples_task_state_seq", "samples", ["task", "state", "seq"], unique=False)
    op.create_index("ix_samples_text_digest_task", "samples", ["text_digest", "task"], unique=False)
    op.create_index(
        "uq_samples_active",
        "samples",
        ["task", "text_digest", "label"],
        unique=True,
        sqlite_where=sa.text("NOT superseded AND state IN ('queued', 'learned', 'quarantined', 'golden')"),
        postgresql_where=sa.text("NOT superseded AND state IN ('queued', 'learned', 'quarantined', 'golden')"),
    )


def _create_lineage() -> None:
    """Versions and what each learned."""
    op.create_table(
        "versions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("parent", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("encoder_digest", sa.String(length=64), nullable=False),
        sa.Column("heads", sa.JSON(), nullable=False),
        sa.Column("manifest_digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("samples_new", sa.BigInteger(), nullable=False),
        sa.Column("samples_replayed", sa.BigInteger(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("gate", sa.JSON(), nullable=False),
        sa.Column("promoted_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("artefacts_kept", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_versions")),
    )
    op.create_index(
        "uq_versions_live",
        "versions",
        ["state"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("version", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_ledger_sample_id_samples")),
        sa.ForeignKeyConstraint(["version"], ["versions.number"], name=op.f("fk_ledger_version_versions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
        sa.UniqueConstraint("version", "sample_id", "action", name=op.f("uq_ledger_version_sample_id_action")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_ledger_sample_id"), "ledger", ["sample_id"], unique=False)


def _create_predictions_and_embeddings() -> None:
    """What was answered and encoded."""
    op.create_table(
        "embeddings",
        sa.Column("encoder_digest", sa.String(length=64), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("encoder_digest", "sample_id", name=op.f("pk_embeddings")),
    )
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )
    op.create_index("ix_predictions_created_at_id", "predictions", ["created_at", "id"], unique=False)


def _create_events_keys_and_leases() -> None:
    """What the two processes tell each other."""
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.Column("receipts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def downgrade() -> None:
    """Takes it back."""
    op.drop_index(op.f("ix_ledger_sample_id"), table_name="ledger")
    op.drop_table("ledger")
    op.drop_index(
        "uq_versions_live",
        table_name="versions",
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.drop_table("versions")
    op.drop_index(
        "uq_samples_active",
        table_name="samples",
        sqlite_where=sa.text("NOT superseded AND state IN ('queued', 'learned', 'quarantined', 'golden')"),
        postgresql_where=sa.text("NOT superseded AND state IN ('queued', 'learned', 'quarantined', 'golden')"),
    )
    op.drop_index("ix_samples_text_digest_task", table_name="samples")
    op.drop_index("ix_samples_task_state_seq", table_name="samples")
    op.drop_index("ix_samples_task_state_label_seq", table_name="samples")
    op.drop_index(
        "ix_samples_retraction_pending",
        table_name="samples",
        sqlite_where=sa.text("state = 'learned' AND retract_requested"),
        postgresql_where=sa.text("state = 'learned' AND retract_requested"),
    )
    op.drop_index(
        "ix_samples_queued",
        table_name="samples",
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.drop_table("samples")
    op.drop_index("ix_predictions_created_at_id", table_name="predictions")
    op.drop_table("predictions")
    op.drop_table("leases")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("events")
    op.drop_table("embeddings")
