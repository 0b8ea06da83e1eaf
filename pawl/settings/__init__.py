"""All settings. Each is read from `PAWL_<NAME>`; a misspelt or wrong one stops the start and is named."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pawl.domain.encoders import EncoderChoice
from pawl.domain.errors import SettingInvalid
from pawl.settings.consolidation import ConsolidationSettings
from pawl.settings.probation import ProbationSettings
from pawl.settings.quarantine import QuarantineSettings

PREFIX = "PAWL_"
_SOCKET_PATH_LIMIT = 100  # a unix socket's path holds 107 bytes on Linux


class Settings(ConsolidationSettings, QuarantineSettings, ProbationSettings, BaseSettings):
    """Settings of app, worker and command line; frozen once read. Those of one subject are in a module of their own."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    home: Path = Path("~/.pawl")
    """Folder for the embedded database and Redis, artefacts and snapshots."""
    database_url: SecretStr | None = None
    """SQLAlchemy URL, e.g. `postgresql+psycopg://user:secret@host/pawl`; empty means SQLite under `home`."""
    redis_url: SecretStr | None = None
    """Redis URL, e.g. `redis://host:6379/0`; empty means the embedded server's socket under `home`; `none`: no Redis,
    SQL alone carries corrections (the learner looks ten times a second).
    """
    host: str = "127.0.0.1"
    """Address the HTTP service listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port the HTTP service listens on; 0 takes a free one."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes of the HTTP service behind one socket; each loads the model and has its share of the cores."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log lines written."""

    encoder: str = "small"
    """Encoder of a first version: `small`, `base` or `multilingual` (`pawl encoder list`), `none` for words alone, a
    folder, or a hub id.
    """
    encoder_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Hex SHA-256 the encoder's weights must have; those of the named encoders are known and always checked."""
    encoder_prefix: str | None = Field(default=None, max_length=1000)
    """Put before every text that is encoded, for encoders that were trained so (`query: ` for the E5 family); unset, it
    is what the encoder's own folder names, if anything, or the table of the named encoders.
    """
    max_tokens: int = Field(default=256, ge=8, le=8192)
    """Texts are cut to this many tokens."""
    device: str = "auto"
    """Where the learner computes: `auto` (CUDA if there is one), `cpu`, `cuda`, `cuda:1`."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads for each process's numerics; 0 means one for each core."""
    pooled_layers: int = Field(default=3, ge=1, le=48)  # ADR 0011
    """Layers of the encoder that make the embedding: the last one and others evenly below it."""
    compression: str = Field(default="none", pattern=r"^(none|int8|prune:0\.[1-9][0-9]?(\+int8)?)$")  # ADR 0020, 0017
    """What is served of an encoder that is exported: all of it (`none`); its weights rounded to int8, a quarter of the
    size and twice as fast; after a consolidation, without a share of its feed-forward neurons, what they did distilled
    into the others (`prune:0.3`); or both (`prune:0.3+int8`). What is trained is float32 in every case.
    """
    backend: Literal["auto", "onnxruntime", "openvino", "torch"] = "auto"  # ADR 0016, 0024
    """What runs an encoder of float32 weights: `auto` takes the fastest of what is installed and gives the numbers of
    transformers (torch only beside a GPU), a name pins one of them. int8 weights always run on ONNX Runtime.
    """
    random_features: int = Field(default=1280, ge=0, le=65536)
    """M, the number of random ReLU features next to the embedding."""
    lexical_size: int = Field(default=4096, ge=0, le=65536)
    """Numbers that the words and characters of a text are hashed to for the lexical head; a power of two from 64 on, or
    0: no lexical head.
    """
    seed: int = Field(default=0, ge=0)
    """Seed of the random features and of replay."""

    heldout_fraction: float = Field(default=0.1, ge=0.0, lt=0.9)
    """Share of texts (by hash) that no encoder trains on and that judge candidates."""
    young_class_size: int = Field(default=64, ge=1, le=1024)  # ADR 0005
    """Classes with fewer samples count as much as if they had this many (weight size / 2^floor(log2 n))."""
    prior_correction: float = Field(default=0.04, ge=0.0, le=1.0)  # ADR 0014
    """tau in score_c - tau log n_c: how far frequent labels are held back."""
    correction_emphasis: float = Field(default=8.0, ge=1.0, le=100.0)  # ADR 0012
    """How many times its weight a correction may count, so that it is the answer to its own text; 1 means never."""
    head_precision: Literal["float32", "float64"] = "float64"
    """Precision of the learner's inverse; float32 halves its memory and is refitted more often to stay exact."""
    fast_answers_loss: Annotated[float, Field(ge=0.0, le=10.0)] | Literal["off"] = 0.0
    """Points of accuracy that answers by words alone, without the encoder, may cost against the answers of both heads;
    `off`: none are given. The threshold is chosen anew with each version; `off` takes effect at the next start.
    """
    closed_labels: bool = False
    """Refuse feedback with a label the live version does not know (422) instead of learning a new class."""
    bootstrap_samples: int = Field(default=10, ge=2)
    """Feedback needed (with at least two labels) before a first version is made without an import."""

    max_batch: int = Field(default=32, ge=1, le=1024)
    """Texts in one encoder batch."""
    max_batch_wait_ms: float = Field(default=0.0, ge=0.0, le=100.0)
    """How long a batch waits for company; 0 takes what is there."""
    predict_queue: int = Field(default=2048, ge=1)
    """Texts waiting for the encoder; beyond it 429."""
    predict_timeout_ms: int = Field(default=30_000, ge=1)
    """A prediction not answered by then is a 504."""
    answer_cache: int = Field(default=0, ge=0)
    """Answers of the live version kept for texts that come again, the most recently used ones; 0 keeps none."""
    max_texts: int = Field(default=256, ge=1, le=10_000)
    """Texts (or feedback items) in one request; beyond it 422."""
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Request body limit; beyond it 413."""
    max_wait_ms: int = Field(default=30_000, ge=0)
    """Longest `wait_ms` a client may ask for."""
    log_predictions: bool = True
    """Keep answers in SQL so that feedback can name them by id."""
    prediction_buffer: int = Field(default=20_000, ge=1)
    """Answers waiting to be written to SQL; beyond it the oldest are dropped (`pawl_predictions_dropped_total`)."""
    prediction_buffer_characters: int = Field(default=2**26, ge=1)
    """Characters of text in that buffer; beyond it the oldest are dropped as well."""
    prediction_retention_hours: float = Field(default=72.0, gt=0)
    """Age at which a logged prediction expires."""
    prediction_retention_rows: int = Field(default=1_000_000, ge=1)
    """Logged predictions kept at most."""
    event_retention_rows: int = Field(default=100_000, ge=1)
    """Events kept at most."""
    idempotency_retention_hours: float = Field(default=24.0, gt=0)
    """How long an Idempotency-Key is remembered."""
    max_queued: int = Field(default=1_000_000, ge=1)
    """Feedback waiting to be learned; beyond it 429."""
    stream_entries: int = Field(default=100_000, ge=100)
    """Entries on the Redis stream; beyond it (about) the oldest go, and the sweep brings their samples from SQL."""
    announcements: int = Field(default=10_000, ge=1)
    """Sample ids waiting in the app for the stream; beyond it they are left to the sweep."""
    max_listeners: int = Field(default=64, ge=1)
    """Open streams of `GET /v1/events`; beyond it 429."""
    drain_seconds: float = Field(default=5.0, ge=0.0)
    """Time requests in flight have to finish when a process stops."""
    server_seconds: float = Field(default=2.0, gt=0.0)  # ADR 0026
    """How long one HTTP request may wait for database and Redis, all its calls together; beyond it 503."""
    learner_server_seconds: float = Field(default=30.0, gt=0.0)
    """How long the learner and the command line wait for one answer of the database."""
    poll_seconds: float = Field(default=1.0, gt=0.0)
    """How often the app asks SQL for the live version when no hint came."""

    learn_batch: int = Field(default=64, ge=1, le=4096)
    """Most samples in one head update."""
    bulk_batch: int = Field(default=2048, ge=1, le=100_000)
    """Samples taken in one step while a bulk import is queued."""
    sweep_seconds: float = Field(default=2.0, gt=0.0)
    """How often the learner looks in SQL for queued samples that Redis did not bring."""
    reclaim_seconds: float = Field(default=10.0, gt=0.0)
    """A stream entry another consumer held this long is taken over."""
    lease_seconds: float = Field(default=5.0, gt=0.5)
    """Life of the learner's lease; a dead learner is replaced after it."""
    max_attempts: int = Field(default=5, ge=1)
    """Tries to learn a sample before it is `dead`."""
    snapshot_every: int = Field(default=500, ge=1)
    """Samples learned between two snapshots of the learner's statistics."""
    keep_versions: int = Field(default=20, ge=2)
    """Newest versions whose artefacts are kept (bootstraps and consolidations among the last ten are kept as well)."""

    gate_items: int = Field(default=2000, ge=10, le=100_000)
    """Held-out samples that judge a candidate, per task."""
    gate_alpha: float = Field(default=0.01, gt=0.0, lt=1.0)
    """Significance of the overall paired test (exact McNemar, one-sided)."""
    gate_class_alpha: float = Field(default=0.01, gt=0.0, lt=1.0)
    """Family-wise significance of the per-class tests (exact binomial, one-sided, Holm)."""
    gate_max_drop: float = Field(default=0.005, ge=0.0, le=1.0)
    """Overall accuracy a candidate may lose even where the loss is significant."""
    gate_max_class_drop: float = Field(default=0.05, ge=0.0, le=1.0)
    """Recall one class may lose even where the loss is significant."""
    gate_max_ece_rise: float = Field(default=0.05, ge=0.0, le=1.0)
    """Calibration error a candidate may add."""
    gate_max_bytes: int = Field(default=2 * 2**30, ge=1)
    """Size an artefact may have."""
    gate_max_latency_ratio: float = Field(default=2.0, gt=0.0)
    """Time per text of a consolidated artefact against the live one's, measured in one run."""

    @field_validator("lexical_size")
    @classmethod
    def _check_lexical_size(cls, size: int) -> int:
        if size and (size < 64 or size & (size - 1)):
            raise ValueError("it is 0 or a power of two from 64 on")
        return size

    @property
    def fast_loss(self) -> float | None:
        """Points of accuracy that fast answers may cost; None where they are off."""
        return None if self.fast_answers_loss == "off" else self.fast_answers_loss

    @property
    def precision(self) -> Literal["float32", "int8"]:
        """Of the weights that serve."""
        return "int8" if self.compression.endswith("int8") else "float32"

    @property
    def encoder_choice(self) -> EncoderChoice:
        """What decides the features of a version that is made with these settings."""
        return EncoderChoice(
            encoder=self.encoder,
            encoder_sha256=self.encoder_sha256,
            encoder_prefix=self.encoder_prefix,
            max_tokens=self.max_tokens,
            pooled_layers=self.pooled_layers,
            precision=self.precision,
            random_features=self.random_features,
            seed=self.seed,
            lexical_size=self.lexical_size,
        )

    @property
    def pruned_share(self) -> float:
        """Of the feed-forward neurons, 0 where none are removed."""
        match = re.match("prune:([0-9.]+)", self.compression)
        return float(match.group(1)) if match is not None else 0.0

    @property
    def home_path(self) -> Path:
        """`home`, absolute, `~` expanded."""
        return self.home.expanduser().resolve()

    @property
    def artefacts_path(self) -> Path:
        """Where version folders and blobs are."""
        return self.home_path / "artefacts"

    @property
    def encoders_path(self) -> Path:
        """Where encoders are exported to: the copies that damaged ones are healed from."""
        return self.home_path / "encoders"

    @property
    def snapshots_path(self) -> Path:
        """Where the learner keeps its statistics."""
        return self.home_path / "snapshots"

    @property
    def redis_socket(self) -> Path:
        """The embedded Redis server's unix socket; moved to the temp folder where the path would be too long."""
        path = self.home_path / "redis" / "redis.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
            return path
        name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"pawl-{name}.sock"

    @property
    def sql_url(self) -> str:
        """The async SQLAlchemy URL."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return sqlite_url(self.home_path / "pawl.db")

    @property
    def sql_alone(self) -> bool:
        """Whether there is to be no Redis."""
        return self.redis_url is not None and self.redis_url.get_secret_value().strip().lower() == "none"

    @property
    def stream_url(self) -> str:
        """The Redis URL."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        # A path may hold `?` and `#`, which would begin the URL's query or fragment.
        return f"unix://{quote(str(self.redis_socket))}"


def sqlite_url(path: Path) -> str:
    """The async SQLAlchemy URL of a SQLite file, whatever characters its path holds."""
    from sqlalchemy import URL  # most commands need the settings and no database: it is a third of their start

    return URL.create("sqlite+aiosqlite", database=str(path)).render_as_string(hide_password=False)


def load_settings(**overrides: Any) -> Settings:
    """Reads the settings from the environment; `overrides` win.

    Raises `SettingInvalid` for a value that is not allowed and for a `PAWL_` name that does not exist.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    # pydantic ignores names it does not know, so a misspelt setting would have no effect and no error.
    for given in os.environ:
        if given.upper().startswith(PREFIX) and given.upper() not in known:
            raise SettingInvalid(name=given, value=os.environ[given], problem="there is no such setting (misspelt?)")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "?"
        name = PREFIX + field.upper()
        # A URL that cannot be read may still hold a password.
        value = "***" if field.endswith("_url") else overrides.get(field, os.environ.get(name))
        raise SettingInvalid(name=name, value=value, problem=first["msg"]) from None
