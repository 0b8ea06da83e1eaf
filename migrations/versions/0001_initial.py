"""The schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite makes only INTEGER a row id


def upgrade() -> None:
    """Makes the tables."""
    _create_samples()
    _index_samples()
    _create_lineage()
    _create_labels()
    _create_predictions_and_embeddings()
    _create_requests_and_events()


def _create_samples() -> None:
    """Labelled texts, and the imports that brought them."""
    op.create_table(
        "samples",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_digest", sa.String(64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("emphasis", sa.Float(), nullable=False, server_default="1"),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("prediction_id", sa.String(64), nullable=True),
        sa.Column("served_version", sa.BigInteger(), nullable=True),
        sa.Column("served_label", sa.Text(), nullable=True),
        sa.Column("served_by", sa.String(8), nullable=True),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("learned_in_version", sa.BigInteger(), nullable=True),
        sa.Column("retract_requested", sa.Boolean(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("quarantined_by", sa.String(16), nullable=True),
        sa.Column("reviewed_at", _MOMENT, nullable=True),
        sa.Column("decision", sa.String(16), nullable=True),
        sa.Column("doubt", sa.JSON(), nullable=True),
        sa.Column("import_id", sa.String(64), nullable=True),
        sa.Column("replaced_by", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_samples")),
        sa.UniqueConstraint("id", name=op.f("uq_samples_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("accept_reason", sa.Text(), nullable=True),
        sa.Column("heads", sa.JSON(), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )


def _index_samples() -> None:
    """What the queries about samples use."""
    _partial_index("ix_samples_dead", "samples", ["seq"], "state = 'dead'")
    _partial_index(op.f("ix_samples_import_id_state"), "samples", ["import_id", "state"], "import_id IS NOT NULL")
    kept = "(state = 'golden' OR (state = 'learned' AND (pinned OR origin IN ('feedback', 'restored'))))"
    _partial_index("ix_samples_kept", "samples", ["task", "text_digest"], kept)
    _partial_index("ix_samples_quarantined", "samples", ["seq"], "state = 'quarantined'")
    _partial_index("ix_samples_queued", "samples", ["seq"], "state = 'queued'")
    _partial_index("ix_samples_retraction_pending", "samples", ["seq"], "state = 'learned' AND retract_requested")
    op.create_index(op.f("ix_samples_task_state_label_seq"), "samples", ["task", "state", "label", "seq"])
    op.create_index(op.f("ix_samples_task_state_seq"), "samples", ["task", "state", "seq"])
    op.create_index(op.f("ix_samples_text_digest_task"), "samples", ["text_digest", "task"])
    _partial_index(
        "uq_samples_active",
        "samples",
        ["task", "text_digest", "label"],
        "NOT superseded AND state IN ('queued', 'learned', 'quarantined', 'golden')",
        unique=True,
    )


def _create_lineage() -> None:
    """Versions, what each learned, and what refused ones would have."""
    op.create_table(
        "versions",
        sa.Column("number", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("parent", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("encoder_digest", sa.String(64), nullable=False),
        sa.Column("heads", sa.JSON(), nullable=False),
        sa.Column("manifest_digest", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("samples_new", sa.BigInteger(), nullable=False),
        sa.Column("samples_replayed", sa.BigInteger(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("gate", sa.JSON(), nullable=False),
        sa.Column("promoted_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("promoted_at", _MOMENT, nullable=True),
        sa.Column("artefacts_kept", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_versions")),
    )
    _partial_index("uq_versions_live", "versions", ["state"], "state = 'live'", unique=True)
    op.create_table(
        "ledger",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("version", _SERIAL, nullable=False),
        sa.Column("sample_id", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_ledger_sample_id_samples")),
        sa.ForeignKeyConstraint(["version"], ["versions.number"], name=op.f("fk_ledger_version_versions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
        sa.UniqueConstraint("version", "sample_id", "action", name=op.f("uq_ledger_version_sample_id_action")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_ledger_sample_id"), "ledger", ["sample_id"])
    op.create_table(
        "refusals",
        sa.Column("version", _SERIAL, nullable=False),
        sa.Column("sample_id", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("emphasis", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("kind", sa.String(16), nullable=True),
        sa.Column("replaced_by", sa.String(64), nullable=True),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_refusals_sample_id_samples")),
        sa.ForeignKeyConstraint(["version"], ["versions.number"], name=op.f("fk_refusals_version_versions")),
        sa.PrimaryKeyConstraint("version", "sample_id", "action", name=op.f("pk_refusals")),
    )
    op.create_index(op.f("ix_refusals_sample_id"), "refusals", ["sample_id"])


def _create_labels() -> None:
    """What operators decided about labels."""
    op.create_table(
        "labels",
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("now", sa.Text(), nullable=True),
        sa.Column("since_version", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decided_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("task", "name", name=op.f("pk_labels")),
    )
    op.create_table(
        "label_changes",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("settled_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_label_changes")),
        sa.UniqueConstraint("id", name=op.f("uq_label_changes_id")),
        sqlite_autoincrement=True,
    )
    _partial_index("ix_label_changes_pending", "label_changes", ["seq"], "state = 'pending'")
    op.create_index(op.f("ix_label_changes_version"), "label_changes", ["version"])


def _create_predictions_and_embeddings() -> None:
    """What was answered and encoded."""
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("by", sa.String(8), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )
    op.create_index(op.f("ix_predictions_created_at_id"), "predictions", ["created_at", "id"])
    op.create_table(
        "embeddings",
        sa.Column("encoder_digest", sa.String(64), nullable=False),
        sa.Column("sample_id", sa.String(64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("cut", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("encoder_digest", "sample_id", name=op.f("pk_embeddings")),
    )
    _partial_index("ix_embeddings_cut", "embeddings", ["encoder_digest", "cut"], "cut IS NOT NULL")


def _create_requests_and_events() -> None:
    """What the processes tell each other."""
    op.create_table(
        "encoder_requests",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("choice", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("accept", sa.Text(), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("settled_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_encoder_requests")),
        sa.UniqueConstraint("id", name=op.f("uq_encoder_requests_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "events",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("heartbeat_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("receipts", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    """Removes the tables with their indexes."""
    # Those with foreign keys before those that they name.
    for table in (
        "refusals",
        "ledger",
        "versions",
        "samples",
        "predictions",
        "leases",
        "labels",
        "label_changes",
        "imports",
        "idempotency_keys",
        "events",
        "encoder_requests",
        "embeddings",
    ):
        op.drop_table(table)
