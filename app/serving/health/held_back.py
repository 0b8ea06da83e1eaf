"""How many labels wait for a person, as metrics."""

from __future__ import annotations

from app.metrics import AppMetrics
from pawl.domain.quarantine import QuarantineKind
from pawl.ports import SampleStore


class HeldBackWatch:
    """Counts labels in quarantine, by what put them there, and labels that could not be learned."""

    def __init__(self, samples: SampleStore, metrics: AppMetrics) -> None:
        self._samples = samples
        self._quarantined = {kind: metrics.quarantined.labels(kind.value) for kind in QuarantineKind}
        self._dead = metrics.dead_letters

    async def refresh(self) -> None:
        """Asks SQL. Raises `StoreUnavailable`; the last counts stay then."""
        counts = await self._samples.quarantine_counts()
        for kind, gauge in self._quarantined.items():
            gauge.set(counts.get(kind, 0))
        self._dead.set(await self._samples.dead_count())
