"""The tables, for SQLite and PostgreSQL. `migrations/` makes them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from pawl.db.utc import UtcDateTime
from pawl.domain.samples import ACTIVE_STATES

ACTIVE_STATES_SQL = tuple(state.value for state in ACTIVE_STATES)
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes only a column of the exact type INTEGER a row id.
_Serial = BigInteger().with_variant(Integer(), "sqlite")

# A condition of a partial index is written as literal SQL, here and in the queries that should use the index:
# neither planner can prove that `state = ?` implies `state = 'queued'`.
QUEUED = text("state = 'queued'")
RETRACTION_PENDING = text("state = 'learned' AND retract_requested")
_IDENTIFIED = text("NOT superseded AND state IN ('queued', 'learned', 'quarantined', 'golden')")
QUARANTINED = text("state = 'quarantined'")
DEAD = text("state = 'dead'")
KEPT = text("(state = 'golden' OR (state = 'learned' AND (pinned OR origin IN ('feedback', 'restored'))))")
LIVE = text("state = 'live'")
CHANGE_PENDING = text("state = 'pending'")
CUT = text("cut IS NOT NULL")
IMPORTED = text("import_id IS NOT NULL")

samples = Table(
    "samples",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("task", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("text_digest", String(64), nullable=False),
    Column("label", Text, nullable=False),
    Column("weight", Float, nullable=False),
    Column("emphasis", Float, nullable=False, server_default="1"),
    Column("source", Text),
    Column("origin", String(16), nullable=False),
    Column("prediction_id", String(64)),
    Column("served_version", BigInteger),
    Column("served_label", Text),
    Column("served_by", String(8)),
    Column("split", String(16), nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("learned_in_version", BigInteger),
    Column("retract_requested", Boolean, nullable=False),
    # An active sample whose (task, text, label) was accepted again later (another label came in between, or its
    # retraction is pending). It leaves the uniqueness below to its successor; the learner takes it out.
    Column("superseded", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("quarantined_by", String(16)),
    Column("reviewed_at", UtcDateTime),
    Column("decision", String(16)),
    Column("doubt", JSON(none_as_null=True)),  # SQL's NULL, not JSON's
    Column("import_id", String(64)),
    # The newer sample of the same text for whose label this one is retracted.
    Column("replaced_by", String(64)),
    Index("ix_samples_text_digest_task", "text_digest", "task"),
    Index("ix_samples_task_state_seq", "task", "state", "seq"),
    # For `labels_in`, which steps from label to label without reading the rows between.
    Index("ix_samples_task_state_label_seq", "task", "state", "label", "seq"),
    Index("ix_samples_import_id_state", "import_id", "state", sqlite_where=IMPORTED, postgresql_where=IMPORTED),
    Index("ix_samples_queued", "seq", sqlite_where=QUEUED, postgresql_where=QUEUED),
    Index("ix_samples_kept", "task", "text_digest", sqlite_where=KEPT, postgresql_where=KEPT),
    Index("ix_samples_dead", "seq", sqlite_where=DEAD, postgresql_where=DEAD),
    Index("ix_samples_quarantined", "seq", sqlite_where=QUARANTINED, postgresql_where=QUARANTINED),
    Index(
        "ix_samples_retraction_pending",
        "seq",
        sqlite_where=RETRACTION_PENDING,
        postgresql_where=RETRACTION_PENDING,
    ),
    # Acceptances keep to it by their lock on the text; the index holds it on every other way into an active state
    # (release, roll-back, renamed label).
    Index(
        "uq_samples_active",
        "task",
        "text_digest",
        "label",
        unique=True,
        sqlite_where=_IDENTIFIED,
        postgresql_where=_IDENTIFIED,
    ),
    sqlite_autoincrement=True,
)

imports = Table(
    "imports",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("task", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("accept_reason", Text),
    Column("heads", JSON(none_as_null=True)),
    Column("created_at", UtcDateTime, nullable=False),
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("encoder_digest", String(64), primary_key=True),
    Column("sample_id", String(64), primary_key=True),
    # z, shape (d,), little-endian float32
    Column("vector", LargeBinary, nullable=False),
    # Digest of the tokens that were read, where the encoder takes fewer than the text has.
    Column("cut", String(64)),
    Index("ix_embeddings_cut", "encoder_digest", "cut", sqlite_where=CUT, postgresql_where=CUT),
)

predictions = Table(
    "predictions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("task", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("score", Float, nullable=False),
    Column("by", String(8), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # The order in which they expire.
    Index("ix_predictions_created_at_id", "created_at", "id"),
)

versions = Table(
    "versions",
    metadata,
    Column("number", _Serial, primary_key=True, autoincrement=False),
    Column("parent", BigInteger),
    Column("kind", String(16), nullable=False),
    Column("trigger", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("encoder_digest", String(64), nullable=False),
    Column("heads", JSON, nullable=False),
    Column("manifest_digest", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("samples_new", BigInteger, nullable=False),
    Column("samples_replayed", BigInteger, nullable=False),
    Column("watermark", BigInteger, nullable=False),  # the largest `seq` it has learned
    Column("metrics", JSON, nullable=False),
    Column("gate", JSON, nullable=False),
    Column("promoted_by", Text, nullable=False),
    Column("reason", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("promoted_at", UtcDateTime),
    Column("artefacts_kept", Boolean, nullable=False),
    # One live version at most, whatever transactions interleave: the state is the same in all rows it covers.
    Index("uq_versions_live", "state", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("version", _Serial, ForeignKey("versions.number"), nullable=False),
    Column("sample_id", String(64), ForeignKey("samples.id"), nullable=False, index=True),
    Column("action", String(16), nullable=False),
    UniqueConstraint("version", "sample_id", "action"),
    sqlite_autoincrement=True,
)

# What versions that the gate refused would have changed: promoted by hand, they change exactly this.
refusals = Table(
    "refusals",
    metadata,
    Column("version", _Serial, ForeignKey("versions.number"), primary_key=True, autoincrement=False),
    Column("sample_id", String(64), ForeignKey("samples.id"), primary_key=True, index=True),
    Column("action", String(16), primary_key=True),
    Column("emphasis", Float, nullable=False),
    Column("reason", Text),
    Column("kind", String(16)),
    Column("replaced_by", String(64)),
)

labels = Table(
    "labels",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("state", String(16), nullable=False),
    # The label that a renamed or merged one stands for.
    Column("now", Text),
    Column("since_version", BigInteger),
    Column("reason", Text),
    Column("decided_at", UtcDateTime, nullable=False),
)

label_changes = Table(
    "label_changes",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("task", String(64), nullable=False),
    Column("label", Text, nullable=False),
    Column("target", Text),
    Column("reason", Text),
    Column("state", String(16), nullable=False),
    Column("version", BigInteger, index=True),
    Column("problem", Text),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    Index("ix_label_changes_pending", "seq", sqlite_where=CHANGE_PENDING, postgresql_where=CHANGE_PENDING),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("type", String(64), nullable=False),
    Column("payload", JSON, nullable=False),
    # Without AUTOINCREMENT SQLite gives the number of a removed newest row again, and listeners who have it would miss
    # the event that gets it.
    Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

encoder_requests = Table(
    "encoder_requests",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("choice", JSON, nullable=False),
    Column("reason", Text),
    Column("accept", Text),
    Column("state", String(16), nullable=False),
    Column("version", BigInteger),
    Column("problem", Text),
    Column("report", JSON, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    sqlite_autoincrement=True,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("body_digest", String(64), nullable=False),
    Column("receipts", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("heartbeat_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
