"""`GET /v1/events`: what happens, as it happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.openapi import problems
from app.routes.access import service_of
from app.serving.event_feed import Listener

router = APIRouter(tags=["events"])

_LARGEST = 2**63 - 1  # ids are 64-bit integers in SQL, which refuses larger ones


class _EventResponse(StreamingResponse):
    """Gives the listener's place back however the connection ends, also before the first byte."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener.chunks, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listener.close()


@router.get(
    "/v1/events",
    summary="Follow what happens",
    responses={
        200: {
            "description": "Server-sent events: `id`, `event` (`feedback_learned`, `version_promoted`, "
            "`version_refused`, `feedback_quarantined`, `consolidation_asked`, "
            "`quarantine_reviewed`, `probation_failed`, `version_load_failed`, ...), and JSON `data`. "
            "They end when the process stops.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 7\nevent: version_promoted\ndata: {"version": 13, "kind": "head"}\n\n',
                }
            },
        },
        **problems(422, 429, 503),
    },
    response_class=StreamingResponse,
)
async def follow_events(
    request: Request,
    after: Annotated[int | None, Query(ge=0, le=_LARGEST, description="Begin after this id; 0 is all kept.")] = None,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=_LARGEST, description="As browsers send on reconnect.")
    ] = None,
) -> Response:
    """Without `after` or `Last-Event-ID` the stream begins now. So it does with an id that is beyond the newest of this
    home; a first event `position_reset` says so then.
    """
    # A browser that connects again repeats the URL with its old `after`; the header says how far it has come since.
    start = last_event_id if last_event_id is not None else after
    return _EventResponse(await service_of(request).feed.listen(start))
