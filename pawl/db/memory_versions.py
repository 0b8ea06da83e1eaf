"""The in-memory twin of the SQL version ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

from pawl.clock import Clock, SystemClock
from pawl.db.memory import MemoryDatabase, stored
from pawl.db.memory_encoders import MemoryEncoderRequests
from pawl.db.memory_labels import apply_label_change, check_label_change
from pawl.db.promotion import (
    RESTORED,
    Promotion,
    Standing,
    named_samples,
    plan_promotion,
    promotion_events,
    refusal_events,
    replaced_since,
)
from pawl.domain.errors import CandidateStale, ParentNotLive, VersionNotFound
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.samples import ACTIVE_STATES, SampleState
from pawl.domain.versions import (
    Event,
    LearnerStatus,
    LedgerChange,
    LedgerRow,
    NewVersion,
    RefusedAction,
    RefusedRow,
    Version,
    VersionState,
    refused_rows,
)
from pawl.json_values import Json


class MemoryVersionLedger(MemoryEncoderRequests):
    """`VersionLedger` in memory."""

    def __init__(self, database: MemoryDatabase, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    async def live(self) -> Version | None:
        """See `VersionLedger.live`."""
        return next((one for one in self._database.versions.values() if one.state is VersionState.LIVE), None)

    async def get(self, number: int) -> Version:
        """See `VersionLedger.get`."""
        try:
            return self._database.versions[number]
        except KeyError:
            raise VersionNotFound(number=number) from None

    async def page(self, before: int | None, limit: int) -> list[Version]:
        """See `VersionLedger.page`."""
        newest_first = sorted(self._database.versions.values(), key=lambda one: -one.number)
        return [one for one in newest_first if before is None or one.number < before][:limit]

    async def next_number(self) -> int:
        """See `VersionLedger.next_number`."""
        return max(self._database.versions, default=0) + 1

    async def promote(self, version: NewVersion, change: LedgerChange) -> Version:
        """See `VersionLedger.promote`."""
        database, live = self._database, await self.live()
        live_number = None if live is None else live.number
        if live_number != version.parent:
            raise ParentNotLive(parent=version.parent, live=live_number)
        known = [database.samples[id] for id in named_samples(change) if id in database.samples]
        standings = {one.id: Standing(one.state, one.retract_requested, one.reason) for one in known}
        plan = plan_promotion(version, change, standings)
        if change.label is not None:
            check_label_change(database, change.label, tuple(change.unlearned))
        promoted = self._insert(version, VersionState.LIVE)
        if live is not None:
            database.versions[live.number] = replace(live, state=VersionState.RETIRED)
        now = self._clock.now()
        self._yield_identities(change.restored)
        self._apply(plan, version.number, now)
        if change.back_to is not None:
            texts = {(database.samples[id].task, database.samples[id].text_digest) for id in change.quarantined}
            same = [one for one in database.samples.values() if (one.task, one.text_digest) in texts]
            for id in replaced_since(version, change, same, database.superseded):
                database.move(id, SampleState.QUEUED, RESTORED, now)
        if change.label is not None:
            apply_label_change(database, change.label, version.number, now)
        for type, payload in promotion_events(version, change):
            await self.append_event(type, payload)
        return promoted

    async def refuse(self, version: NewVersion, change: LedgerChange, harmful: Mapping[str, str]) -> Version:
        """See `VersionLedger.refuse`. Samples that are not queued any more are left as they are."""
        refused = self._insert(version, VersionState.REFUSED)
        samples = self._database.samples
        before = {id: samples[id].emphasis for id in change.learned}
        self._database.refused += refused_rows(version.number, change, before)
        now = self._clock.now()
        queued = [id for id in harmful if id in samples and samples[id].state is SampleState.QUEUED]
        for id in queued:
            self._database.move(id, SampleState.QUARANTINED, harmful[id], now)
        doubts = {id: change.doubts[id] for id in queued if id in change.doubts}
        self._database.note(dict.fromkeys(queued, QuarantineKind.GATE), doubts)
        for type, payload in refusal_events(version, len(queued)):
            await self.append_event(type, payload)
        return refused

    async def refused(self, number: int) -> list[RefusedRow]:
        """See `VersionLedger.refused`."""
        return sorted((row for row in self._database.refused if row.version == number), key=lambda row: row.sample_id)

    async def refusals_of(self, sample_ids: Sequence[str]) -> list[int]:
        """See `VersionLedger.refusals_of`."""
        rows = [row for row in self._database.refused if row.action is RefusedAction.LEARN]
        return sorted({row.version for row in rows if row.sample_id in set(sample_ids)})

    async def refused_with(self, sample_ids: Sequence[str]) -> list[str]:
        """See `VersionLedger.refused_with`."""
        rows = [row for row in self._database.refused if row.action is RefusedAction.LEARN]
        versions = {row.version for row in rows if row.sample_id in set(sample_ids)}
        return sorted({row.sample_id for row in rows if row.version in versions}.difference(sample_ids))

    def _apply(self, plan: Promotion, number: int, now: datetime) -> None:
        database = self._database
        for id in plan.learned:
            database.move(id, SampleState.LEARNED, None, now)
            database.samples[id] = replace(database.samples[id], learned_in_version=number)
        for id, emphasis in plan.emphasis.items():
            database.samples[id] = replace(database.samples[id], emphasis=database.samples[id].emphasis * emphasis)
        for id, emphasis in plan.weighed.items():
            database.samples[id] = replace(database.samples[id], emphasis=emphasis)
        for id, (state, reason) in plan.moves.items():
            database.move(id, state, reason, now)
        database.note(plan.kinds, plan.doubts)
        database.ledger += plan.rows

    def _yield_identities(self, ids: Sequence[str]) -> None:
        samples, superseded = self._database.samples, self._database.superseded
        active = {
            (one.task, one.text_digest, one.label): one.id
            for one in samples.values()
            if one.state in ACTIVE_STATES and one.id not in superseded
        }
        superseded.update(
            id for id in ids
            if active.get((samples[id].task, samples[id].text_digest, samples[id].label), id) != id
        )  # fmt: skip

    def _insert(self, version: NewVersion, state: VersionState) -> Version:
        if version.number in self._database.versions:
            problem = f"number {version.number} was taken meanwhile"
            raise CandidateStale(parent=version.parent, live=None, problem=problem)
        now = self._clock.now()
        values: dict[str, Any] = {field.name: getattr(version, field.name) for field in fields(version)}
        values.update(heads=dict(version.heads), metrics=stored(version.metrics), gate=stored(version.gate))
        promoted_at = now if state is VersionState.LIVE else None
        new = Version(**values, state=state, created_at=now, promoted_at=promoted_at, artefacts_kept=True)
        self._database.versions[new.number] = new
        return new

    async def ledger(self, after_version: int, up_to_version: int | None = None) -> list[LedgerRow]:
        """See `VersionLedger.ledger`."""
        last = max(self._database.versions, default=0) if up_to_version is None else up_to_version
        return [row for row in self._database.ledger if after_version < row.version <= last]

    async def mark_artefacts_gone(self, numbers: Sequence[int]) -> None:
        """See `VersionLedger.mark_artefacts_gone`."""
        versions = self._database.versions
        for number in versions.keys() & set(numbers):
            versions[number] = replace(versions[number], artefacts_kept=False)
        rows, samples = self._database.refused, self._database.samples
        held = {row.version for row in rows if samples[row.sample_id].state is SampleState.QUARANTINED}
        self._database.refused = [row for row in rows if versions[row.version].artefacts_kept or row.version in held]

    async def append_event(self, type: str, payload: Json) -> Event:
        """See `VersionLedger.append_event`."""
        return self._database.add_event(type, payload, self._clock.now())

    async def events(self, after_id: int, limit: int) -> list[Event]:
        """See `VersionLedger.events`."""
        return [event for event in self._database.events if event.id > after_id][:limit]

    async def last_event_id(self) -> int:
        """See `VersionLedger.last_event_id`."""
        return self._database.events[-1].id if self._database.events else 0

    async def expire_events(self, keep: int) -> int:
        """See `VersionLedger.expire_events`."""
        gone = max(0, len(self._database.events) - keep)
        del self._database.events[:gone]
        return gone

    async def acquire_lease(self, holder: str, seconds: float, state: str, details: Json) -> bool:
        """See `VersionLedger.acquire_lease`."""
        last, now = self._database.learner, self._clock.now()
        if last is not None and last.holder != holder and last.expires_at > now:
            return False
        expires_at = now + timedelta(seconds=seconds)
        self._database.learner = LearnerStatus(holder, state, now, expires_at, stored(details))
        return True

    async def release_lease(self, holder: str) -> None:
        """See `VersionLedger.release_lease`."""
        last = self._database.learner
        if last is not None and last.holder == holder:
            self._database.learner = replace(last, expires_at=self._clock.now())

    async def learner_status(self) -> LearnerStatus | None:
        """See `VersionLedger.learner_status`."""
        return self._database.learner

    async def ping(self) -> None:
        """See `VersionLedger.ping`. Memory is always there."""
