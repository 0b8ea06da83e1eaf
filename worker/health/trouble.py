"""Whether the place is well in which the learner works, and what is said while it is not.

A failure may end what was tried (a sample, a change of a label) only where the same step without it works here:
`blames` finds out. While something is wrong the learner backs off and says so: in the log, as an event, and in every
heartbeat, from which `GET /v1/model`, `pawl status`, `pawl doctor` and the metrics have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from pawl.domain.errors import ParentNotLive, PlaceUnwell, StoreUnavailable
from pawl.json_values import Json
from pawl.ports import VersionLedger
from worker.health.faults import is_device_lost, is_of_the_place, told

TROUBLED = "learner_troubled"
RECOVERED = "learner_recovered"
LEARNING = "learning"
TUNING = "tuning"
HOUSEKEEPING = "housekeeping"
FILING = "filing"
ENCODER = "encoder"
log = structlog.get_logger(__name__)


class DeviceLost(Exception):
    """The GPU is lost to this process; a new one has to take over."""


class Place:
    """What is wrong here, by what could not be done. `rehearse` raises what fails in a step without any new sample."""

    def __init__(self, ledger: VersionLedger, rehearse: Callable[[], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._rehearse = rehearse
        self._problems: dict[str, str] = {}
        self._since: dict[str, datetime] = {}
        self._troubles = 0
        self._reports = 0

    @property
    def is_well(self) -> bool:
        """Whether learning went well last."""
        return LEARNING not in self._problems

    @property
    def reports(self) -> int:
        """How often something was reported, the same thing again included."""
        return self._reports

    def check(self) -> None:
        """Raises `PlaceUnwell` where learning did not go well last."""
        if not self.is_well:
            raise PlaceUnwell(problem=self._problems[LEARNING])

    @property
    def details(self) -> Json:
        """For the heartbeat; `troubles` counts since the start of the process."""
        found: Json = {"troubles": self._troubles}
        if self._problems:
            found["problem"] = "; ".join(dict.fromkeys(self._problems.values()))
            found["problem_since"] = min(self._since.values()).isoformat()
        return found

    async def blames(self, error: Exception) -> bool:
        """Whether a failure may be held against what was tried: the same step without it works here.

        Raises `PlaceUnwell` where it does not, and `DeviceLost`. False for an error that is the place's by its nature,
        though the place seems well again: what was tried is tried again later.
        """
        if is_device_lost(error):
            raise DeviceLost(told(error)) from error
        await self.prove(error)
        return not is_of_the_place(error)

    async def prove(self, error: Exception | None = None) -> None:
        """Returns where a step without any new sample works; raises `PlaceUnwell` with the reason where not.

        `error` is what made it necessary: it is told where it says more.
        """
        try:
            await self._rehearse()
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except Exception as problem:
            if is_device_lost(problem):
                raise DeviceLost(told(problem)) from problem
            named = error if error is not None and is_of_the_place(error) else problem
            raise PlaceUnwell(problem=told(named)) from problem

    async def report(self, error: Exception, doing: str = LEARNING) -> None:
        """Says what is wrong, once until it changes or is over."""
        self._reports += 1
        problem = str(error.details["problem"]) if isinstance(error, PlaceUnwell) else told(error)
        before = self._problems.get(doing)
        if problem == before:
            return
        self._since.setdefault(doing, datetime.now(UTC))
        self._troubles += before is None
        self._problems[doing] = problem
        log.error(TROUBLED, doing=doing, problem=problem, exc_info=error)
        await self._tell(TROUBLED, {"doing": doing, "problem": problem})

    async def recover(self, doing: str = LEARNING) -> None:
        """Says that it is over, where something was wrong."""
        problem = self._problems.pop(doing, None)
        if problem is None:
            return
        lasted = round((datetime.now(UTC) - self._since.pop(doing)).total_seconds(), 1)
        log.info(RECOVERED, doing=doing, problem=problem, seconds=lasted)
        await self._tell(RECOVERED, {"doing": doing, "problem": problem, "seconds": lasted})

    async def _tell(self, type: str, payload: Json) -> None:
        with contextlib.suppress(StoreUnavailable, ConnectionError):  # the heartbeat says it, too, once SQL is back
            await self._ledger.append_event(type, payload)
