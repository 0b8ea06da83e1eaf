"""The truth about samples, and the answers that feedback can name (SQL)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pawl.domain.admission import Admission
from pawl.domain.imports import NewImport
from pawl.domain.predictions import Prediction
from pawl.domain.samples import Backlog, IdempotencyKey, NewSample, Receipt, Sample, SampleFilter, SampleState
from pawl.ports.classifier import Floats
from pawl.ports.dead_letters import DeadLetterStore
from pawl.ports.imports import ImportStore
from pawl.ports.quarantine import QuarantineStore


class SampleStore(QuarantineStore, DeadLetterStore, ImportStore, Protocol):
    """The truth about samples (SQL). Raises `StoreUnavailable` when the database cannot be reached."""

    async def accept(
        self,
        items: Sequence[NewSample],
        key: IdempotencyKey | None = None,
        imports: Sequence[NewImport] = (),
    ) -> list[Receipt]:
        """Stores the items durably, in order, all or none; one receipt each, in the same order.

        Raises `ItemsRefused` for what `examine` finds; its details hold every fault.

        An item whose (task, normalised text, label) is active already is not stored again: its receipt names the
        active sample, unless a newer active sample gives that text another label, in which case it is new again. What
        it says of golden, pin or weight is done (`pawl/domain/acceptance.py`); the receipt's warnings say what is not.
        With a `key` seen before: the same body gets the first receipts back, another body raises
        `IdempotencyConflict`. `imports` are the imports that the items name; they are stored in the same transaction.
        """

    async def examine(self, items: Sequence[NewSample]) -> Admission:
        """What `accept` would say of the items, which are not stored: every fault of each, by its index."""

    async def get(self, sample_id: str) -> Sample:
        """One sample; raises `SampleNotFound`."""

    async def get_many(self, sample_ids: Sequence[str]) -> list[Sample]:
        """The samples that exist, ordered by `seq`. Any number of ids."""

    async def count(self, where: SampleFilter) -> int:
        """How many samples fit; those whose retraction waits for the learner are left out."""

    def stream(self, where: SampleFilter) -> AsyncIterator[list[Sample]]:
        """These samples as they are at one moment, by `seq`, a page at a time."""

    async def queued(self, limit: int, older_than: datetime | None = None) -> list[Sample]:
        """Queued samples (and learned ones whose retraction was requested), oldest `seq` first."""

    async def makes_first_version(self, least: int) -> bool:
        """Whether what is queued makes a first version: `least` samples, and two labels in one task.

        All of it is asked, in no order; a sample that a newer one of its text overtakes does not count.
        """

    async def first_samples(self, limit: int) -> list[Sample]:
        """The queued samples that a first version learns, in turn of each label, by `seq`; none is overtaken."""

    async def backlog(self) -> Backlog:
        """How many samples are queued and since when."""

    async def rivals(self, samples: Sequence[Sample]) -> list[Sample]:
        """All other queued or learned samples that have the same task and normalised text as one of these."""

    async def settle(self, state: SampleState, reasons: Mapping[str, str]) -> int:
        """Moves queued samples (id -> reason) to a final state without a version; returns how many moved."""

    async def settle_replaced(self, newer: Mapping[str, str]) -> int:
        """Retracts queued samples (id -> id of the newer sample of its text) without a version; returns how many."""

    async def request_retraction(self, sample_id: str) -> Sample:
        """Retracts a queued or quarantined sample at once; marks a learned one for the learner to take out.

        One that a newer label has replaced is retracted for good: no roll-back brings it back. Idempotent. Raises
        `SampleNotFound`.
        """

    async def split_bounds(self) -> tuple[str | None, str | None]:
        """Of the oldest samples: the largest text digest that is held out and the smallest one that is not.

        Golden ones are neither. None where there is no such sample.
        """

    async def label_counts(self, task: str) -> dict[str, int]:
        """Learned samples per label."""

    async def tasks(self) -> list[str]:
        """Tasks with at least one learned or queued sample, sorted."""

    async def learned(self, task: str, after_seq: int = 0, limit: int = 10_000) -> list[Sample]:
        """A page of learned samples of a task, by `seq`."""

    async def learned_with_label(self, task: str, label: str, limit: int, after_seq: int = 0) -> list[Sample]:
        """A page of the learned samples of one label, by `seq`."""

    async def golden(self, task: str, limit: int) -> list[Sample]:
        """Golden samples of a task, by `seq`."""

    async def kept_digests(self, task: str, limit: int) -> list[str]:
        """Text digests, at most `limit`, of a task's samples that say the label of one text each: golden ones, and
        learned ones that came as feedback or are pinned.
        """

    async def put_embeddings(
        self, encoder_digest: str, embeddings: Mapping[str, Floats], cuts: Mapping[str, str] | None = None
    ) -> None:
        """Keeps the embedding z, shape (d,), of samples under one encoder; replaces what was there.

        `cuts` are digests of what the encoder read, of those whose text is longer than that.
        """

    async def copy_cuts(self, old_digest: str, new_digest: str) -> None:
        """Gives embeddings under a new encoder the `cuts` of an old one that reads texts as it does."""

    async def cut_alike(self, encoder_digest: str, task: str, cuts: Sequence[str]) -> dict[str, list[Sample]]:
        """By `cut`: the queued and learned samples of a task of which an encoder read just that, by `seq`."""

    async def cut_conflicts(self, encoder_digest: str) -> set[str]:
        """Learned samples of which the encoder reads the same as of one with another label in the same task."""

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
