"""The in-memory twin of the imports in SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pawl.clock import Clock
from pawl.db.imports import accepted_event, accepted_reason, sorted_outcomes
from pawl.domain.imports import Import, NewImport, Outcome
from pawl.domain.samples import Sample, SampleFilter, SampleState

if TYPE_CHECKING:
    from pawl.db.memory import MemoryDatabase


class MemoryImports:
    """The part of `SampleStore` that keeps imports."""

    _database: MemoryDatabase
    _clock: Clock

    async def imports(self, import_ids: Sequence[str]) -> dict[str, Import]:
        """See `ImportStore.imports`."""
        known = self._database.imports
        return {id: known[id] for id in import_ids if id in known}

    async def waiting(self, import_ids: Sequence[str], sample_ids: Sequence[str]) -> int:
        """See `ImportStore.waiting`."""
        queued = [one for one in self._database.samples.values() if one.state is SampleState.QUEUED]
        return sum(one.import_id in import_ids for one in queued) + sum(one.id in sample_ids for one in queued)

    async def outcomes(self, import_ids: Sequence[str]) -> list[Outcome]:
        """See `ImportStore.outcomes`."""
        own = [one for one in self._database.samples.values() if one.import_id in import_ids]
        counts = Counter((one.task, one.label, one.state, one.reason) for one in own)
        return sorted_outcomes([Outcome(*group, count) for group, count in counts.items()])

    async def count(self, where: SampleFilter) -> int:
        """See `SampleStore.count`."""
        return len(self._fitting(where))

    async def stream(self, where: SampleFilter) -> AsyncIterator[list[Sample]]:
        """See `SampleStore.stream`."""
        found = self._fitting(where)
        if found:
            yield found

    def _fitting(self, where: SampleFilter) -> list[Sample]:
        return [
            one
            for one in self._database.samples.values()
            if one.state in where.states
            and (where.tasks is None or one.task in where.tasks)
            and (where.since is None or one.updated_at >= where.since)
            and not (one.state is SampleState.LEARNED and one.retract_requested)
        ]

    def _keep_imports(self, imports: Sequence[NewImport], released: Mapping[str, str]) -> None:
        now = self._clock.now()
        for one in imports:
            self._database.imports[one.id] = Import(**asdict(one), created_at=now)
            ids = [id for id, import_id in released.items() if import_id == one.id]
            for id in ids:
                self._database.move(id, SampleState.QUEUED, accepted_reason(one), now)
                sample = self._database.samples[id]
                self._database.samples[id] = replace(sample, reviewed_at=now, import_id=one.id)
            if one.accept_reason is not None:
                self._database.add_event(*accepted_event(one, len(ids)), now)

    async def of_import(self, import_id: str, state: SampleState, limit: int, after_seq: int = 0) -> list[Sample]:
        """See `ImportStore.of_import`."""
        own = (one for one in self._database.samples.values() if one.import_id == import_id and one.state is state)
        return [one for one in own if one.seq > after_seq][:limit]
