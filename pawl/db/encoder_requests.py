"""Requests for another encoder in SQL."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.clock import Clock
from pawl.db.engine import LockSpace, reading, serialise, writing
from pawl.db.events import add_events
from pawl.db.tables import encoder_requests as table
from pawl.domain.encoders import EncoderChoice, EncoderRequest, EncoderRequestState, new_request, request_event
from pawl.domain.errors import EncoderRequestNotFound
from pawl.json_values import Json


class EncoderRequestTable:
    """The part of `VersionLedger` that keeps requests for another encoder."""

    _engine: AsyncEngine
    _clock: Clock

    async def request_encoder(self, choice: EncoderChoice, reason: str | None, accept: str | None) -> EncoderRequest:
        """See `EncoderRequests.request_encoder`."""
        async with writing(self._engine) as connection:
            await serialise(connection, LockSpace.ENCODERS, ["encoders"])
            # The lock comes first: of two requests at once each would find no other pending, and both would wait.
            request = new_request(choice, reason, accept, self._clock.now())
            last = await _last(connection)
            events = [request_event(request)]
            if last is not None and last.state is EncoderRequestState.PENDING:
                if (last.choice, last.accept) == (choice, accept):
                    return last  # asked for twice (a repeated POST): one request, embedded once
                older = await self._settle(
                    connection, last.id, EncoderRequestState.FAILED, problem=f"replaced by {request.id}"
                )
                events.insert(0, request_event(older))
            values = asdict(request) | {"choice": asdict(choice), "state": request.state.value}
            await connection.execute(insert(table).values(values))
            await add_events(connection, self._clock, events)
        return request

    async def encoder_request(self, request_id: str) -> EncoderRequest:
        """See `EncoderRequests.encoder_request`."""
        async with reading(self._engine) as connection:
            return await _get(connection, request_id)

    async def last_encoder_request(self) -> EncoderRequest | None:
        """See `EncoderRequests.last_encoder_request`."""
        async with reading(self._engine) as connection:
            return await _last(connection)

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
        async with writing(self._engine) as connection:
            await serialise(connection, LockSpace.ENCODERS, ["encoders"])
            # A newer request may have replaced it while the learner worked; what was told then stays.
            if (known := await _get(connection, request_id)).state is not EncoderRequestState.PENDING:
                return known
            settled = await self._settle(
                connection, request_id, state, version=version, problem=problem, report=report or {}
            )
            await add_events(connection, self._clock, [request_event(settled)])
        return settled

    async def _settle(
        self, connection: AsyncConnection, request_id: str, state: EncoderRequestState, **values: Any
    ) -> EncoderRequest:
        statement = update(table).where(table.c.id == request_id)
        await connection.execute(statement.values(state=state.value, settled_at=self._clock.now(), **values))
        return await _get(connection, request_id)


async def _get(connection: AsyncConnection, request_id: str) -> EncoderRequest:
    row = (await connection.execute(_SELECT.where(table.c.id == request_id))).one_or_none()
    if row is None:
        raise EncoderRequestNotFound(request_id=request_id)
    return _request(row)


async def _last(connection: AsyncConnection) -> EncoderRequest | None:
    row = (await connection.execute(_SELECT.order_by(table.c.seq.desc()).limit(1))).one_or_none()
    return None if row is None else _request(row)


_SELECT = select(*(column for column in table.c if column.name != "seq"))  # `seq` only orders; no field of a request


def _request(row: Row[*tuple[Any, ...]]) -> EncoderRequest:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented name for it
    state = EncoderRequestState(row.state)
    return EncoderRequest(**values | {"choice": EncoderChoice.from_json(row.choice), "state": state})
