"""Settings that contradict what serves: the service answers all the same, and says so.

Predictions do not go down because of a setting, so nothing is refused here; `pawl up` and the learner refuse to start.
"""

from __future__ import annotations

import asyncio

import structlog

from app.metrics import AppMetrics
from pawl.domain.errors import StoreUnavailable
from pawl.ports import ArtefactStore, SampleStore, VersionLedger
from pawl.settings import Settings
from pawl.versions.contradictions import Contradiction, find_contradictions

log = structlog.get_logger(__name__)

_SECONDS = 10.0


class ContradictionWatch:
    """Looks whenever another version serves, and now and then, for a request for another encoder makes it a plan."""

    def __init__(
        self,
        settings: Settings,
        ledger: VersionLedger,
        artefacts: ArtefactStore,
        samples: SampleStore,
        metrics: AppMetrics,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._artefacts = artefacts
        self._samples = samples
        self.found: list[Contradiction] = []
        """What was found last."""
        metrics.contradictions.set_function(lambda: len(self.found))

    async def refresh(self) -> list[Contradiction]:
        """Looks again, and logs what is new. Raises `StoreUnavailable`."""
        found = await find_contradictions(self._settings, self._ledger, self._artefacts, self._samples)
        for each in found:
            if each not in self.found:
                log.warning("setting_contradicts_what_serves", setting=each.setting, problem=str(each))
        self.found = found
        return found

    async def run(self) -> None:
        """Refreshes for ever; keeps what was found while SQL is down."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                log.debug("contradictions_unknown")
            await asyncio.sleep(_SECONDS)
