"""Requests for another encoder: when one is tried, and what is recorded of it."""

from __future__ import annotations

import time
from typing import Any

from pawl.backoff import Backoff
from pawl.domain.encoders import EncoderRequest, EncoderRequestState
from pawl.domain.versions import Version, VersionState
from pawl.json_values import Json
from pawl.ports import VersionLedger

_LOOK_SECONDS = 0.5


class Requests:
    """Which request is tried next, and what is recorded of it.

    A request that failed because of the machine (a full disk, a process that was killed) is tried again, with growing
    pauses; one whose encoder cannot be used is settled.
    """

    def __init__(self, ledger: VersionLedger) -> None:
        self._ledger = ledger
        self._backoff = Backoff(first=5.0, longest=60.0)
        self._not_before = 0.0

    async def next(self) -> EncoderRequest | None:
        """The request to be tried now.

        One that has a version already, whose outcome a crash kept from being written, is settled instead.
        """
        now = time.monotonic()
        if now < self._not_before:
            return None
        self._not_before = now + _LOOK_SECONDS
        request = await self._ledger.last_encoder_request()
        if request is None or request.state is not EncoderRequestState.PENDING:
            return None
        # The version and the request's outcome are two transactions; a learner that died between them would make a
        # second version of one request.
        for version in await self._ledger.page(None, 20):
            if version.metrics.get("encoder_request") == request.id:
                await self.settle(request, version)
                return None
        return request

    async def waits(self) -> bool:
        """Whether a request is not settled yet."""
        request = await self._ledger.last_encoder_request()
        return request is not None and request.state is EncoderRequestState.PENDING

    async def settle(self, request: EncoderRequest, version: Version) -> None:
        """Records what became of a request: a version that serves, or one that the gate refused."""
        self._backoff.reset()
        refused = version.state is VersionState.REFUSED
        state = EncoderRequestState.REFUSED if refused else EncoderRequestState.APPLIED
        problem = "; ".join(version.gate.get("reasons", ()))[:1000] if refused else None
        await self._ledger.settle_encoder_request(
            request.id, state, version=version.number, problem=problem, report=comparison(version)
        )

    async def failed(self, request: EncoderRequest, problem: str, *, for_good: bool) -> None:
        """Settles a request that would fail again, or sees to it that it is tried again later."""
        if for_good:
            await self._ledger.settle_encoder_request(request.id, EncoderRequestState.FAILED, problem=problem[:1000])
            return
        self._not_before = time.monotonic() + self._backoff.next_pause()


def comparison(version: Version) -> Json:
    """How the version's encoder compares with the one before it: each task on the same texts, leave-one-out."""
    tasks: dict[str, Any] = {}
    for task, report in version.gate.get("tasks", {}).items():
        overall = report["overall"]
        kept = ("items", "live", "candidate", "lost", "gained", "p_value")
        tasks[task] = {name: overall[name] for name in kept}
    return {
        "tasks": tasks,
        "latency_ratio": version.gate.get("latency_ratio"),
        "reasons": list(version.gate.get("reasons", ())),
        "forced": version.gate.get("forced"),
        "samples": version.metrics.get("encoder", {}).get("embedded"),
    }
