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
    """Looks whenever another version serves, and now and then, for a request for another encoder makes it a plan."""

    def __init__(self, settings: Settings, ports: Ports, metrics: AppMetrics) -> None:
        self._settings = settings
        self._ports = ports
        self.found: list[Contradiction] = []
        """What was found last."""
        metrics.contradictions.set_function(lambda: len(self.found))

    async def refresh(self) -> list[Contradiction]:
        """Looks again, and logs what is new. Raises `StoreUnavailable`."""
        ports = self._ports
        contradictions = await find_contradictions(self._settings, ports.ledger, ports.artefacts, ports.samples)
        for contradiction in contradictions:
            if contradiction not in self.found:
                problem = str(contradiction)
                log.warning("setting_contradicts_what_serves", setting=contradiction.setting, problem=problem)
        self.found = contradictions
        return contradictions
