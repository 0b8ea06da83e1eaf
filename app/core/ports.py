"""What the service and the learner need from the outside, as Protocols. Adapters implement them; only the
composition roots (`app/main.py`, `app/cli.py`, `app/offline.py`, `worker/__main__.py`) name an adapter.

All I/O is async. Each method of a store is one transaction. Texts and labels are plain `str`; arrays are float32.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.core.domain.manifest import Manifest
from app.core.domain.predictions import Prediction
from app.core.domain.samples import Backlog, IdempotencyKey, NewSample, Receipt, Sample, SampleState
from app.core.domain.versions import (
    Event,
    Json,
    LearnerStatus,
    LedgerChange,
    LedgerRow,
    NewVersion,
    Version,
)

Floats = npt.NDArray[np.float32]


class Clock(Protocol):
    """The time, in UTC, with a timezone."""

    def now(self) -> datetime:
        """The present moment."""


class SampleStore(Protocol):
    """The truth about samples (SQL). Raises `StoreUnavailable` when the database cannot be reached."""

    async def accept(self, items: Sequence[NewSample], key: IdempotencyKey | None = None) -> list[Receipt]:
        """Stores the items durably, in order, all or none; one receipt each, in the same order.

        An item whose (task, normalised text, label) is active already is not stored again: its receipt names the
        active sample, unless a newer active sample gives that text another label, in which case it is new again.
        With a `key` seen before: the same body gets the first receipts back, another body raises
        `IdempotencyConflict`.
        """

    async def get(self, sample_id: str) -> Sample:
        """One sample; raises `SampleNotFound`."""

    async def get_many(self, sample_ids: Sequence[str]) -> list[Sample]:
        """The samples that exist, ordered by `seq`. Any number of ids."""

    async def queued(self, limit: int, older_than: datetime | None = None) -> list[Sample]:
        """Queued samples (and learned ones whose retraction was requested), oldest `seq` first."""

    async def backlog(self) -> Backlog:
        """How many samples are queued and since when."""

    async def rivals(self, samples: Sequence[Sample]) -> list[Sample]:
        """All other queued or learned samples that have the same task and normalised text as one of these."""

    async def settle(self, state: SampleState, reasons: Mapping[str, str]) -> int:
        """Moves queued samples (id -> reason) to a final state without a version; returns how many moved."""

    async def request_retraction(self, sample_id: str) -> Sample:
        """Retracts a queued or quarantined sample at once; marks a learned one for the learner to take out.

        Idempotent. Raises `SampleNotFound`.
        """

    async def label_counts(self, task: str) -> dict[str, int]:
        """Learned samples per label."""

    async def tasks(self) -> list[str]:
        """Tasks with at least one learned or queued sample, sorted."""

    async def learned(self, task: str, after_seq: int = 0, limit: int = 10_000) -> list[Sample]:
        """A page of learned samples of a task, by `seq`."""

    async def learned_with_label(self, task: str, label: str, limit: int) -> list[Sample]:
        """Learned samples of one label, by `seq`."""

    async def golden(self, task: str, limit: int) -> list[Sample]:
        """Golden samples of a task, by `seq`."""

    async def put_embeddings(self, encoder_digest: str, embeddings: Mapping[str, Floats]) -> None:
        """Keeps the embedding z, shape (d,), of samples under one encoder; replaces what was there."""

    async def get_embeddings(self, encoder_digest: str, sample_ids: Sequence[str]) -> dict[str, Floats]:
        """The kept embeddings; ids without one are left out."""

    async def drop_embeddings(self, keep: Sequence[str]) -> int:
        """Removes the embeddings of all encoders but these; returns how many rows went."""

    async def versions_trained_on(self, sample_id: str) -> list[int]:
        """Versions whose encoder was trained on the sample."""


class PredictionLog(Protocol):
    """Answers, so that feedback can name one by id (SQL)."""

    async def write(self, predictions: Sequence[Prediction]) -> None:
        """Stores a batch; an id that exists already is left as it is."""

    async def get_many(self, prediction_ids: Sequence[str]) -> dict[str, Prediction]:
        """The predictions that are known and not expired."""

    async def expire(self, before: datetime, keep: int) -> int:
        """Removes those older than `before` and all but the newest `keep`; returns how many went."""


class VersionLedger(Protocol):
    """The lineage: versions, what each learned, events, and the learner's lease (SQL)."""

    async def live(self) -> Version | None:
        """The live version."""

    async def get(self, number: int) -> Version:
        """One version; raises `VersionNotFound`."""

    async def page(self, before: int | None, limit: int) -> list[Version]:
        """Versions newest first, numbers below `before`."""

    async def next_number(self) -> int:
        """The number the next candidate takes: one more than any ever used."""

    async def promote(self, version: NewVersion, change: LedgerChange) -> Version:
        """Makes a candidate live: version row, ledger rows, sample states and event in one transaction.

        Raises `ParentNotLive` when `version.parent` is not the live version any more, or when a sample in the change
        is no longer in the state the change starts from; then nothing was written.
        """

    async def refuse(self, version: NewVersion, change: LedgerChange) -> Version:
        """Records a candidate that the gate refused, with its report; only `quarantined` of the change is used."""

    async def ledger(self, after_version: int, up_to_version: int | None = None) -> list[LedgerRow]:
        """Ledger rows of versions in (after, up_to], in the order they were written."""

    async def mark_artefacts_gone(self, numbers: Sequence[int]) -> None:
        """Notes that retention removed these versions' files."""

    async def append_event(self, type: str, payload: Json) -> Event:
        """Writes one event."""

    async def events(self, after_id: int, limit: int) -> list[Event]:
        """Events with a larger id, oldest first."""

    async def last_event_id(self) -> int:
        """The newest event's id, 0 if there is none."""

    async def expire_events(self, keep: int) -> int:
        """Removes all but the newest `keep`; returns how many went."""

    async def acquire_lease(self, holder: str, seconds: float, state: str, details: Json) -> bool:
        """Takes or renews the learner's lease and writes its heartbeat; false while another holder's is valid."""

    async def release_lease(self, holder: str) -> None:
        """Gives the lease back at once."""

    async def learner_status(self) -> LearnerStatus | None:
        """The last heartbeat; None if there never was one."""

    async def ping(self) -> None:
        """Raises `StoreUnavailable` when the database cannot be reached."""


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One delivered entry. `deliveries` counts how often it was handed out."""

    entry_id: str
    sample_ids: tuple[str, ...]
    deliveries: int


class FeedbackStream(Protocol):
    """Transport of sample ids to the learner, and hints about new versions (Redis). Loss is allowed: SQL is swept.

    Raises `ConnectionError` when the server cannot be reached.
    """

    async def announce(self, sample_ids: Sequence[str]) -> None:
        """Puts ids on the stream (one entry for each 500)."""

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """New entries for this consumer, waiting up to `block_ms`. Creates the group where it is missing."""

    async def reclaim(self, consumer: str, min_idle_ms: int, count: int) -> list[StreamEntry]:
        """Entries that another consumer took and did not finish."""

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """Marks entries as done and removes them."""

    async def length(self) -> int:
        """Entries on the stream."""

    async def hint_version(self, number: int) -> None:
        """Tells the apps that a version was promoted (a hint; they poll SQL too)."""

    def version_hints(self) -> AsyncIterator[int]:
        """Version numbers as they are hinted. Ends with `ConnectionError` when the server goes away."""

    async def ask_consolidation(self, trigger: str) -> None:
        """Asks the learner for a consolidation now."""

    async def consolidation_asked(self) -> str | None:
        """Takes the pending request, if there is one."""

    async def ping(self) -> None:
        """Raises `ConnectionError` when the server cannot be reached."""

    async def close(self) -> None:
        """Closes the connections."""


class Encoder(Protocol):
    """A frozen map from text to a vector. Plain sync; call it from a thread."""

    @property
    def digest(self) -> str:
        """Identifies weights, tokenizer and pooling: equal digests give equal embeddings."""

    @property
    def dimension(self) -> int:
        """d, the length of z."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), unit length, in the order of the texts."""


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """A verified folder of one version."""

    number: int
    path: Path
    manifest: Manifest


class ArtefactStore(Protocol):
    """Immutable version folders. Sync; call it from a thread.

    A folder is made of hard links to content-addressed blobs, so an encoder shared by many versions is stored once.
    """

    def publish(
        self, number: int, manifest: Manifest, files: Mapping[str, Path | bytes], *, exclusive: bool = False
    ) -> VersionFolder:
        """Writes version `number`: blobs first (temp file, fsync, rename), the manifest last.

        `files` maps the path inside the folder to bytes or to an existing file (linked or copied). The manifest's
        `files` table (path -> sha256) is filled in here. What lies there is replaced or, with `exclusive`, left as it
        is: `FileExistsError`.
        """

    def link(self, number: int, source: int, manifest: Manifest, *, exclusive: bool = False) -> VersionFolder:
        """Makes version `number` with the files of version `source` (roll-back); `exclusive` as in `publish`."""

    def open(self, number: int, *, skip: frozenset[str] = frozenset()) -> VersionFolder:
        """Verifies and opens a version; files whose sha256 is in `skip` (loaded and verified before) are not read.

        Raises `ArtefactCorrupt` for a missing folder or file, a wrong digest or a bad manifest.
        """

    def path(self, number: int) -> Path:
        """The folder a version has or would have."""

    def remove(self, numbers: Sequence[int]) -> int:
        """Removes version folders, then the blobs nothing links to; returns the bytes freed."""

    def kept(self) -> list[int]:
        """Numbers of the folders that exist."""
