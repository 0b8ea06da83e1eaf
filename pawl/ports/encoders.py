"""Requests for another encoder, which wait for the learner (SQL)."""

from __future__ import annotations

from typing import Protocol

from pawl.domain.encoders import EncoderChoice, EncoderRequest, EncoderRequestState
from pawl.json_values import Json


class EncoderRequests(Protocol):
    """At most one waits: a newer request takes the place of an older one."""

    async def request_encoder(self, choice: EncoderChoice, reason: str | None, accept: str | None) -> EncoderRequest:
        """Writes a request down, with an event. The same one that waits already is answered as it is."""

    async def encoder_request(self, request_id: str) -> EncoderRequest:
        """One request; raises `EncoderRequestNotFound`."""

    async def last_encoder_request(self) -> EncoderRequest | None:
        """The newest, whatever became of it."""

    async def settle_encoder_request(
        self,
        request_id: str,
        state: EncoderRequestState,
        *,
        version: int | None = None,
        problem: str | None = None,
        report: Json | None = None,
    ) -> EncoderRequest:
        """Says what became of a pending request, with an event; one that is settled already stays as it is."""
