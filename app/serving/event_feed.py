"""Events as server-sent events. One query every quarter of a second tells all listeners whether there is news."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import structlog

from app.metrics import AppMetrics
from pawl.deadlines import budget
from pawl.domain.errors import Draining, QueueFull, StoreUnavailable
from pawl.domain.versions import Event
from pawl.ports import VersionLedger
from pawl.settings import Settings

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.25
_HEARTBEAT_SECONDS = 15.0
_PAGE = 500
_RETRY_AFTER_SECONDS = 5
RESET_EVENT = "position_reset"
HEARTBEAT = b": heartbeat\n\n"


class Listener:
    """One open stream: `chunks`, and a place among the listeners that `close` gives back."""

    def __init__(self, chunks: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        self.chunks = chunks
        self._leave: Callable[[], None] | None = leave

    def close(self) -> None:
        """Gives the place back; once."""
        if self._leave is not None:
            self._leave()
            self._leave = None


class EventFeed:
    """Follows the events in SQL for any number of listeners up to `max_listeners`."""

    def __init__(self, ledger: VersionLedger, settings: Settings, metrics: AppMetrics) -> None:
        self._ledger = ledger
        self._limit = settings.max_listeners
        self._server_seconds = settings.server_seconds
        self._listeners = 0
        self._last_id = 0
        self._closed = False
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        metrics.listeners.set_function(lambda: self._listeners)

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        # A new event for the waits to come. Each listener holds the one that it took before it read, so that a change
        # while it reads ends its wait at once.
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Asks SQL for the newest event's id while somebody listens."""
        while not self._closed:
            # No query where nobody listens. `_last_id` is old after such a pause: the first look then wakes listeners
            # for an empty page, which does no harm.
            await self._wanted.wait()
            try:
                newest = await self._ledger.last_event_id()
            except StoreUnavailable:
                log.debug("events_unavailable")
            else:
                if newest > self._last_id:
                    self._last_id = newest
                    self._wake()
            await asyncio.sleep(_POLL_SECONDS)

    async def listen(self, after_id: int | None) -> Listener:
        """A stream of events with ids above `after_id`; None means from now on. The caller must `close` it.

        An id that no event of this home has yet comes from another home (or from one that was made anew): the stream
        begins now, and says so. Raises `QueueFull`, `Draining` or `StoreUnavailable`.
        """
        if self._closed:
            raise Draining
        if self._listeners >= self._limit:
            raise QueueFull(queue="event listener", limit=self._limit, retry_after=_RETRY_AFTER_SECONDS)
        # Before the query: requests that come while it runs must find the place taken, or the limit could be passed.
        self._listeners += 1
        try:
            newest = await self._ledger.last_event_id()
        except BaseException:  # also a cancelled request, whose place nobody else would give back
            self._leave()
            raise
        self._wanted.set()
        if after_id is not None and after_id > newest:
            return Listener(self._stream(newest, _reset(after_id, newest)), self._leave)
        return Listener(self._stream(newest if after_id is None else after_id), self._leave)

    def _leave(self) -> None:
        self._listeners -= 1
        if not self._listeners:
            self._wanted.clear()

    async def _stream(self, after: int, first: bytes = b"") -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n" + first
        while True:
            # Both before the page is read: an event that is written after the read sets `changed`, and when the feed is
            # closed meanwhile there is one more page, with what was written until then.
            changed, is_last = self._changed, self._closed
            page = await self._page(after)
            for event in page:
                after = event.id
                yield encode(event)
            if is_last:
                return
            if len(page) == _PAGE:
                continue
            try:
                async with asyncio.timeout(_HEARTBEAT_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield HEARTBEAT

    async def _page(self, after: int) -> list[Event]:
        try:
            with budget(self._server_seconds):  # a stream outlives the budget of its request
                return await self._ledger.events(after, _PAGE)
        except StoreUnavailable:
            return []  # the same ids are asked for again, with the next event or heartbeat


def _reset(asked: int, newest: int) -> bytes:
    """Tells a listener that asked for what came after an id of another home. Its own last id becomes the newest."""
    detail = f"There is no event {asked} here yet; this stream begins after the newest, {newest}."
    data = json.dumps({"asked": asked, "newest": newest, "detail": detail})
    return f"id: {newest}\nevent: {RESET_EVENT}\ndata: {data}\n\n".encode()


def encode(event: Event) -> bytes:
    """One event in the `text/event-stream` format; `data` is JSON with `created_at` beside the payload."""
    data = json.dumps({"created_at": event.created_at.isoformat(), **event.payload})
    # A line break would end the field, and what follows would be read as another one.
    kind = event.type.replace("\n", " ").replace("\r", " ")
    return f"id: {event.id}\nevent: {kind}\ndata: {data}\n\n".encode()
