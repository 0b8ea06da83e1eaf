"""Whether the learner's environment (disk, memory, device, servers) works, and what is reported while it does not.

A failure may be counted against an input (a sample, a change of a label) only where the same step without it works:
`is_fault_of_input` tries that. While something is wrong the learner backs off and reports it in the log, as an event,
and in every heartbeat, from which `GET /v1/model`, `pawl status`, `pawl doctor` and the metrics have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from pawl.domain.errors import ParentNotLive, PlaceUnwell, StoreUnavailable
from pawl.json_values import Json
from pawl.ports import VersionLedger
from worker.health.faults import is_device_lost, is_of_environment, sentence

TROUBLED = "learner_troubled"
RECOVERED = "learner_recovered"
LEARNING = "learning"
TUNING = "tuning"
HOUSEKEEPING = "housekeeping"
FILING = "filing"
ENCODER = "encoder"
log = structlog.get_logger(__name__)


class DeviceLost(Exception):
    """This process has lost its GPU; a new process has to take over."""


class Environment:
    """What does not work at present, by activity. `dry_run` raises what fails in a step without any new sample."""

    def __init__(self, ledger: VersionLedger, dry_run: Callable[[], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._dry_run = dry_run
        self._problems: dict[str, str] = {}
        self._since: dict[str, datetime] = {}
        self._troubles = 0
        self._reports = 0

    @property
    def is_well(self) -> bool:
        """Whether learning worked last."""
        return LEARNING not in self._problems

    @property
    def reports(self) -> int:
        """Calls of `report` so far."""
        return self._reports

    def require_well(self) -> None:
        """Raises `PlaceUnwell` where learning did not work last."""
        if not self.is_well:
            raise PlaceUnwell(problem=self._problems[LEARNING])

    @property
    def details(self) -> Json:
        """For the heartbeat; `troubles` counts since the start of the process."""
        details: Json = {"troubles": self._troubles}
        if self._problems:
            details["problem"] = "; ".join(dict.fromkeys(self._problems.values()))
            details["problem_since"] = min(self._since.values()).isoformat()
        return details

    async def is_fault_of_input(self, error: Exception) -> bool:
        """Whether a failure may be counted against the input: the same step without it works.

        Returns false for an error that is the environment's by its class, even though the environment works again: the
        input is tried again later. Raises `PlaceUnwell` where the step without the input fails too, and `DeviceLost`.
        """
        if is_device_lost(error):
            raise DeviceLost(sentence(error)) from error
        await self.verify(error)
        return not is_of_environment(error)

    async def verify(self, error: Exception | None = None) -> None:
        """Makes a dry run. Raises `PlaceUnwell` with the reason where it fails.

        `error` is why the dry run is made. It is the reason where it names a fault of the environment: the dry run may
        fail of something less telling.
        """
        try:
            await self._dry_run()
        # They say nothing of disk, memory or device; whoever calls waits for a server, or for its turn, in its own way.
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except Exception as problem:
            if is_device_lost(problem):
                raise DeviceLost(sentence(problem)) from problem
            reason = error if error is not None and is_of_environment(error) else problem
            raise PlaceUnwell(problem=sentence(reason)) from problem

    async def report(self, error: Exception, doing: str = LEARNING) -> None:
        """Reports what is wrong, once until the problem changes or is over."""
        self._reports += 1
        problem = str(error.details["problem"]) if isinstance(error, PlaceUnwell) else sentence(error)
        before = self._problems.get(doing)
        if problem == before:
            return
        self._since.setdefault(doing, datetime.now(UTC))  # the beginning stays while its sentence changes
        self._troubles += before is None
        self._problems[doing] = problem
        log.error(TROUBLED, doing=doing, problem=problem, exc_info=error)
        await self._append_event(TROUBLED, {"doing": doing, "problem": problem})

    async def recover(self, doing: str = LEARNING) -> None:
        """Reports that a problem is over, where there was one."""
        problem = self._problems.pop(doing, None)
        if problem is None:
            return
        lasted = round((datetime.now(UTC) - self._since.pop(doing)).total_seconds(), 1)
        log.info(RECOVERED, doing=doing, problem=problem, seconds=lasted)
        await self._append_event(RECOVERED, {"doing": doing, "problem": problem, "seconds": lasted})

    async def _append_event(self, type: str, payload: Json) -> None:
        with contextlib.suppress(StoreUnavailable, ConnectionError):  # the heartbeat tells it once SQL is back
            await self._ledger.append_event(type, payload)
