"""In-memory twins of the SQL stores, with the same semantics: for tests, trials and single-process use."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from pawl.clock import Clock, SystemClock
from pawl.db.embeddings import conflicting
from pawl.db.engine import to_json
from pawl.db.first_version import is_enough
from pawl.db.memory_dead_letters import MemoryDeadLetters
from pawl.db.memory_imports import MemoryImports
from pawl.db.memory_quarantine import MemoryQuarantine
from pawl.db.samples import RETRACTED_BY_CLIENT, SETTLED_STATES, SPLITS_LOOKED_AT
from pawl.domain.encoders import EncoderRequest
from pawl.domain.errors import SampleNotFound
from pawl.domain.imports import Import
from pawl.domain.labels import LabelChange, LabelRecord
from pawl.domain.predictions import Prediction
from pawl.domain.quarantine import Doubt, QuarantineKind
from pawl.domain.samples import (
    ACTIVE_STATES,
    DEFAULT_TASK,
    Backlog,
    Receipt,
    Sample,
    SampleState,
    Split,
)
from pawl.domain.versions import Event, LearnerStatus, LedgerAction, LedgerRow, RefusedRow, Version, VersionState
from pawl.json_values import Json
from pawl.ports import Floats


@dataclass(slots=True)
class Answered:
    """What a request with an Idempotency-Key got."""

    body_digest: str
    receipts: list[Receipt]
    at: datetime


@dataclass(slots=True)
class MemoryDatabase:
    """What the twins share, as the SQL stores share an engine. Its methods do not wait, so nothing comes between."""

    samples: dict[str, Sample] = field(default_factory=dict)
    """By id, in the order of `seq`."""
    superseded: set[str] = field(default_factory=set)
    imports: dict[str, Import] = field(default_factory=dict)
    encoder_requests: dict[str, EncoderRequest] = field(default_factory=dict)
    """By id, in the order of requests."""
    embeddings: dict[tuple[str, str], Floats] = field(default_factory=dict)
    cuts: dict[tuple[str, str], str | None] = field(default_factory=dict)
    predictions: dict[str, Prediction] = field(default_factory=dict)
    answered: dict[str, Answered] = field(default_factory=dict)
    versions: dict[int, Version] = field(default_factory=dict)
    ledger: list[LedgerRow] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    events_written: int = 0
    learner: LearnerStatus | None = None
    labels: dict[tuple[str, str], LabelRecord] = field(default_factory=dict)
    """By (task, name)."""
    label_changes: dict[str, LabelChange] = field(default_factory=dict)
    """By id, in the order of requests."""

    def move(self, sample_id: str, state: SampleState, reason: str | None, now: datetime) -> None:
        """Gives a sample another state."""
        self.samples[sample_id] = replace(self.samples[sample_id], state=state, reason=reason, updated_at=now)

    def known_tasks(self) -> list[str]:
        """Tasks for which samples may come."""
        active = {one.task for one in self.samples.values() if one.state in ACTIVE_STATES}
        heads = {task for one in self.versions.values() if one.state is VersionState.LIVE for task in one.heads}
        return sorted({DEFAULT_TASK, *active, *heads, *(task for task, _ in self.labels)})

    def note(self, kinds: Mapping[str, QuarantineKind], doubts: Mapping[str, Doubt]) -> None:
        """What put samples into quarantine, and what spoke against some."""
        for id, kind in kinds.items():
            self.samples[id] = replace(self.samples[id], quarantined_by=kind)
        for id, doubt in doubts.items():
            self.samples[id] = replace(self.samples[id], doubt=doubt)

    def add_event(self, type: str, payload: Json, now: datetime) -> Event:
        """Writes an event."""
        self.events_written += 1
        event = Event(self.events_written, type, stored(payload), now)
        self.events.append(event)
        return event


def stored(value: Json) -> Json:
    """What comes back from a database: a copy in plain JSON values."""
    copy: Json = json.loads(to_json(value))
    return copy


class MemorySampleStore(MemoryDeadLetters, MemoryQuarantine, MemoryImports):
    """`SampleStore` in memory."""

    def __init__(
        self,
        database: MemoryDatabase,
        clock: Clock | None = None,
        *,
        heldout_fraction: float = 0.1,
        idempotency_hours: float = 24.0,
        closed_labels: bool = False,
        most_bytes: int | None = None,
    ) -> None:
        self._database = database
        self._closed_labels = closed_labels
        self._most_bytes = most_bytes
        self._clock = clock or SystemClock()
        self._heldout_fraction = heldout_fraction
        self._idempotency_life = timedelta(hours=idempotency_hours)

    async def get(self, sample_id: str) -> Sample:
        """See `SampleStore.get`."""
        try:
            return self._database.samples[sample_id]
        except KeyError:
            raise SampleNotFound(sample_id=sample_id) from None

    async def get_many(self, sample_ids: Sequence[str]) -> list[Sample]:
        """See `SampleStore.get_many`."""
        wanted = set(sample_ids)
        return self._select(lambda one: one.id in wanted)

    async def queued(self, limit: int, older_than: datetime | None = None) -> list[Sample]:
        """See `SampleStore.queued`."""
        waiting = self._select(
            lambda one: one.state is SampleState.QUEUED or (one.state is SampleState.LEARNED and one.retract_requested)
        )
        return [one for one in waiting if older_than is None or one.updated_at < older_than][:limit]

    async def makes_first_version(self, least: int) -> bool:
        """See `SampleStore.makes_first_version`."""
        counts = Counter((one.task, one.label) for one in self._standing())
        return is_enough([(task, count) for (task, _), count in counts.items()], least)

    async def first_samples(self, limit: int) -> list[Sample]:
        """See `SampleStore.first_samples`."""
        places: Counter[tuple[str, str]] = Counter()
        turns = []
        for one in self._standing():
            places[one.task, one.label] += 1
            turns.append((places[one.task, one.label], one.seq, one))
        chosen = sorted(turns, key=lambda turn: turn[:2])[:limit]
        return sorted((one for _, _, one in chosen), key=lambda one: one.seq)

    def _standing(self) -> list[Sample]:
        """Queued samples that no newer queued one of their text overtakes."""
        queued = self._select(lambda one: one.state is SampleState.QUEUED)
        newest = {(one.task, one.text_digest): one.id for one in queued}
        return [one for one in queued if newest[one.task, one.text_digest] == one.id]

    async def backlog(self) -> Backlog:
        """See `SampleStore.backlog`."""
        waiting = self._select(lambda one: one.state is SampleState.QUEUED)
        return Backlog(len(waiting), waiting[0].created_at if waiting else None)

    async def rivals(self, samples: Sequence[Sample]) -> list[Sample]:
        """See `SampleStore.rivals`."""
        texts = {(sample.task, sample.text_digest) for sample in samples}
        own = {sample.id for sample in samples}
        states = (SampleState.QUEUED, SampleState.LEARNED)
        return self._select(
            lambda one: one.state in states and (one.task, one.text_digest) in texts and one.id not in own
        )

    async def settle(self, state: SampleState, reasons: Mapping[str, str]) -> int:
        """See `SampleStore.settle`. Raises `ValueError` for a state that only acceptance or a version can give."""
        if state not in SETTLED_STATES:
            raise ValueError(f"a sample cannot be settled as {state.value}")
        queued = self._select(lambda one: one.id in reasons and one.state is SampleState.QUEUED)
        now = self._clock.now()
        for sample in queued:
            self._database.move(sample.id, state, reasons[sample.id], now)
        return len(queued)

    async def request_retraction(self, sample_id: str) -> Sample:
        """See `SampleStore.request_retraction`. A golden sample is retracted at once, too."""
        sample, now = await self.get(sample_id), self._clock.now()
        if sample.state is SampleState.LEARNED:
            if not sample.retract_requested:
                self._database.samples[sample_id] = replace(sample, retract_requested=True, updated_at=now)
        elif sample.can_come_back:
            self._database.move(sample_id, SampleState.RETRACTED, RETRACTED_BY_CLIENT, now)
        return self._database.samples[sample_id]

    async def split_bounds(self) -> tuple[str | None, str | None]:
        """See `SampleStore.split_bounds`."""
        oldest = list(self._database.samples.values())[:SPLITS_LOOKED_AT]
        heldout = [one.text_digest for one in oldest if one.split is Split.HELDOUT]
        train = [one.text_digest for one in oldest if one.split is Split.TRAIN]
        return max(heldout, default=None), min(train, default=None)

    async def label_counts(self, task: str) -> dict[str, int]:
        """See `SampleStore.label_counts`."""
        return dict(Counter(sample.label for sample in self._select(_in(task, SampleState.LEARNED))))

    async def tasks(self) -> list[str]:
        """See `SampleStore.tasks`."""
        states = (SampleState.LEARNED, SampleState.QUEUED)
        return sorted({sample.task for sample in self._select(lambda one: one.state in states)})

    async def learned(self, task: str, after_seq: int = 0, limit: int = 10_000) -> list[Sample]:
        """See `SampleStore.learned`."""
        return [one for one in self._select(_in(task, SampleState.LEARNED)) if one.seq > after_seq][:limit]

    async def learned_with_label(self, task: str, label: str, limit: int, after_seq: int = 0) -> list[Sample]:
        """See `SampleStore.learned_with_label`."""
        learned = self._select(_in(task, SampleState.LEARNED))
        return [one for one in learned if one.label == label and one.seq > after_seq][:limit]

    async def golden(self, task: str, limit: int) -> list[Sample]:
        """See `SampleStore.golden`."""
        return self._select(_in(task, SampleState.GOLDEN))[:limit]

    async def put_embeddings(
        self, encoder_digest: str, embeddings: Mapping[str, Floats], cuts: Mapping[str, str] | None = None
    ) -> None:
        """See `SampleStore.put_embeddings`."""
        for sample_id, vector in embeddings.items():
            self._database.embeddings[encoder_digest, sample_id] = np.array(vector, dtype=np.float32)
            self._database.cuts[encoder_digest, sample_id] = (cuts or {}).get(sample_id)

    async def copy_cuts(self, old_digest: str, new_digest: str) -> None:
        """See `SampleStore.copy_cuts`."""
        for (digest, sample_id), cut in list(self._database.cuts.items()):
            if digest == old_digest and cut is not None and (new_digest, sample_id) in self._database.cuts:
                self._database.cuts[new_digest, sample_id] = cut

    async def cut_alike(self, encoder_digest: str, task: str, cuts: Sequence[str]) -> dict[str, list[Sample]]:
        """See `SampleStore.cut_alike`."""
        found: dict[str, list[Sample]] = {}
        for sample in self._database.samples.values():
            cut = self._database.cuts.get((encoder_digest, sample.id))
            if cut in cuts and sample.task == task and sample.state in (SampleState.QUEUED, SampleState.LEARNED):
                found.setdefault(str(cut), []).append(sample)
        return found

    async def cut_conflicts(self, encoder_digest: str) -> set[str]:
        """See `SampleStore.cut_conflicts`."""
        learned = (one for one in self._database.samples.values() if one.state is SampleState.LEARNED)
        rows = [(one.id, self._database.cuts.get((encoder_digest, one.id)), one.task, one.label) for one in learned]
        return conflicting([row for row in rows if row[1] is not None])

    async def get_embeddings(self, encoder_digest: str, sample_ids: Sequence[str]) -> dict[str, Floats]:
        """See `SampleStore.get_embeddings`."""
        kept = self._database.embeddings
        return {id: kept[encoder_digest, id].copy() for id in sample_ids if (encoder_digest, id) in kept}

    async def drop_embeddings(self, keep: Sequence[str]) -> int:
        """See `SampleStore.drop_embeddings`."""
        gone = [key for key in self._database.embeddings if key[0] not in keep]
        for key in gone:
            del self._database.embeddings[key]
            self._database.cuts.pop(key, None)
        return len(gone)

    async def versions_trained_on(self, sample_id: str) -> list[int]:
        """See `SampleStore.versions_trained_on`."""
        trained = (sample_id, LedgerAction.ENCODER)
        return sorted(row.version for row in self._database.ledger if (row.sample_id, row.action) == trained)

    def _select(self, condition: Callable[[Sample], bool]) -> list[Sample]:
        return [sample for sample in self._database.samples.values() if condition(sample)]


def _in(task: str, state: SampleState) -> Callable[[Sample], bool]:
    return lambda one: one.task == task and one.state is state
