"""The in-memory twin of the requests for another encoder in SQL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pawl.clock import Clock
from pawl.db.encoder_rules import event_of, new_request, replaced_by
from pawl.domain.encoders import EncoderChoice, EncoderRequest, EncoderRequestState
from pawl.domain.errors import EncoderRequestNotFound
from pawl.json_values import Json

if TYPE_CHECKING:
    from pawl.db.memory import MemoryDatabase


class MemoryEncoderRequests:
    """The part of `VersionLedger` that keeps requests for another encoder."""

    _database: MemoryDatabase
    _clock: Clock

    async def request_encoder(self, choice: EncoderChoice, reason: str | None, accept: str | None) -> EncoderRequest:
        """See `EncoderRequests.request_encoder`."""
        request = new_request(choice, reason, accept, self._clock.now())
        last = await self.last_encoder_request()
        if last is not None and last.state is EncoderRequestState.PENDING:
            if (last.choice, last.accept) == (choice, accept):
                return last
            await self.settle_encoder_request(last.id, EncoderRequestState.FAILED, problem=replaced_by(request))
        self._database.encoder_requests[request.id] = request
        self._database.add_event(*event_of(request), self._clock.now())
        return request

    async def encoder_request(self, request_id: str) -> EncoderRequest:
        """See `EncoderRequests.encoder_request`."""
        if request_id not in self._database.encoder_requests:
            raise EncoderRequestNotFound(request_id=request_id)
        return self._database.encoder_requests[request_id]

    async def last_encoder_request(self) -> EncoderRequest | None:
        """See `EncoderRequests.last_encoder_request`."""
        return next(reversed(self._database.encoder_requests.values()), None)

    async def settle_encoder_request(
        self,
        request_id: str,
        state: EncoderRequestState,
        *,
        version: int | None = None,
        problem: str | None = None,
        report: Json | None = None,
    ) -> EncoderRequest:
        """See `EncoderRequests.settle_encoder_request`."""
        known = await self.encoder_request(request_id)
        if known.state is not EncoderRequestState.PENDING:
            return known
        now = self._clock.now()
        settled = replace(
            known, state=state, version=version, problem=problem, report=dict(report or {}), settled_at=now
        )
        self._database.encoder_requests[request_id] = settled
        self._database.add_event(*event_of(settled), now)
        return settled
