"""The in-memory twin of accepting samples into SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pawl.clock import Clock
from pawl.db.acceptance import Acceptance, Arrival, Standing, insisted, plan_acceptance, told_of_labels
from pawl.db.memory_imports import MemoryImports
from pawl.domain.admission import Admission, TaskFacts, admit, clean_all
from pawl.domain.errors import IdempotencyConflict
from pawl.domain.imports import NewImport
from pawl.domain.labels import LabelChangeState, is_whole
from pawl.domain.samples import (
    ACTIVE_STATES,
    IdempotencyKey,
    NewSample,
    Receipt,
    Sample,
    SampleState,
    Split,
    digest_text,
)
from pawl.domain.versions import Version, VersionState

if TYPE_CHECKING:
    from pawl.db.memory import MemoryDatabase


class MemoryAccepting(MemoryImports):
    """The part of `SampleStore` that takes samples in."""

    _database: MemoryDatabase
    _clock: Clock
    _heldout_fraction: float
    _idempotency_life: timedelta
    _closed_labels: bool
    _most_bytes: int | None

    async def examine(self, items: Sequence[NewSample]) -> Admission:
        """See `SampleStore.examine`."""
        return self._admitted(items)

    async def accept(
        self,
        items: Sequence[NewSample],
        key: IdempotencyKey | None = None,
        imports: Sequence[NewImport] = (),
    ) -> list[Receipt]:
        """See `SampleStore.accept`."""
        from pawl.db.memory import Answered

        now, answered = self._clock.now(), self._database.answered
        if key is not None:
            for expired in [name for name, one in answered.items() if one.at <= now - self._idempotency_life]:
                del answered[expired]
            if key.key in answered:
                if answered[key.key].body_digest != key.body_digest:
                    raise IdempotencyConflict(key=key.key)
                return list(answered[key.key].receipts)
        admission = self._admitted(items)
        admission.check()
        standings = self._standings(admission.items)
        plan = plan_acceptance(admission.items, standings, self._heldout_fraction, insisted(imports))
        receipts = told_of_labels(items, admission.items, plan.receipts, admission.warnings)
        self._store(plan, now)
        self._keep_imports(imports, plan.released)
        if key is not None:
            answered[key.key] = Answered(key.body_digest, list(receipts), now)
        return receipts

    def _admitted(self, items: Sequence[NewSample]) -> Admission:
        database = self._database
        clean, faults = clean_all(items, self._most_bytes)
        live = next((one for one in database.versions.values() if one.state is VersionState.LIVE), None)
        facts = {task: self._facts(task, live) for task in {item.task for item in clean}}
        everyone = all(known.exists(task) for task, known in facts.items())
        tasks = () if everyone else database.known_tasks()
        return admit(clean, faults, facts, tasks, closed=self._closed_labels and live is not None)

    def _facts(self, task: str, live: Version | None) -> TaskFacts:
        database = self._database
        active = (one for one in database.samples.values() if one.task == task and one.state in ACTIVE_STATES)
        drops = (one for one in database.label_changes.values() if is_whole(one) and one.task == task)
        return TaskFacts(
            labels=frozenset(one.label for one in active),
            records={name: record for (of, name), record in database.labels.items() if of == task},
            head=live.labels.get(task) if live else None,
            leaving=next((one.id for one in drops if one.state is LabelChangeState.PENDING), None),
        )

    def _standings(self, items: Sequence[NewSample]) -> list[Standing]:
        texts = {(item.task, digest_text(item.text)) for item in items}
        return [
            Standing(
                one.id,
                one.task,
                one.text_digest,
                one.label,
                one.state,
                one.retract_requested,
                one.id in self._database.superseded,
                one.weight,
                one.pinned,
                one.source,
            )
            for one in self._database.samples.values()
            if one.state in ACTIVE_STATES and (one.task, one.text_digest) in texts
        ]

    def _store(self, plan: Acceptance, now: datetime) -> None:
        samples = self._database.samples
        self._database.superseded.update(plan.superseded)
        for id, standing in plan.changed.items():
            samples[id] = replace(samples[id], weight=standing.weight, pinned=standing.pinned, updated_at=now)
            if standing.state is SampleState.GOLDEN:
                samples[id] = replace(samples[id], state=SampleState.GOLDEN, split=Split.GOLDEN, reason=None)
        for arrival in plan.arrivals:
            self._add(arrival, now)
        for id, reason in plan.leaving.items():
            samples[id] = replace(samples[id], retract_requested=True, reason=reason, updated_at=now)
        for id, reason in plan.retracted.items():
            self._database.move(id, SampleState.RETRACTED, reason, now)

    def _add(self, arrival: Arrival, now: datetime) -> None:
        standing, item = arrival.standing, arrival.item
        self._database.samples[standing.id] = Sample(
            id=standing.id,
            seq=len(self._database.samples) + 1,
            task=standing.task,
            text=item.text,
            text_digest=standing.text_digest,
            label=standing.label,
            weight=standing.weight,
            source=standing.source,
            origin=item.origin,
            prediction_id=item.prediction_id,
            served_version=item.served_version,
            served_label=item.served_label,
            split=arrival.split,
            pinned=standing.pinned,
            state=standing.state,
            reason=item.hold.reason if item.hold else None,
            learned_in_version=None,
            retract_requested=False,
            created_at=now,
            updated_at=now,
            import_id=item.import_id,
            emphasis=item.emphasis,
            quarantined_by=item.hold.kind if item.hold else None,
        )
        if standing.superseded:
            self._database.superseded.add(standing.id)
