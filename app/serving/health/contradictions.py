"""Settings that contradict what serves: the service answers all the same, and says so.

Predictions do not go down because of a setting, so nothing is refused here; `pawl up` and the learner refuse to start.
"""

from __future__ import annotations

import structlog

from app.metrics import AppMetrics
from app.serving.ports import Ports
from pawl.settings import Settings
from pawl.versions.contradictions import Contradiction, find_contradictions

log = structlog.get_logger(__name__)


class ContradictionWatch:
    """Compares the settings with what serves, again and again: another version or encoder may change the result."""

    def __init__(self, settings: Settings, ports: Ports, metrics: AppMetrics) -> None:
        self._settings = settings
        self._ports = ports
        self.found: list[Contradiction] = []
        """The contradictions of the last comparison."""
        metrics.contradictions.set_function(lambda: len(self.found))

    async def refresh(self) -> list[Contradiction]:
        """Compares, and logs new contradictions. Raises `StoreUnavailable`."""
        ports = self._ports
        contradictions = await find_contradictions(self._settings, ports.ledger, ports.artefacts, ports.samples)
        for contradiction in contradictions:
            if contradiction not in self.found:
                problem = str(contradiction)
                log.warning("setting_contradicts_what_serves", setting=contradiction.setting, problem=problem)
        self.found = contradictions
        return contradictions
