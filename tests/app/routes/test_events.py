from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from app.metrics import AppMetrics
from app.serving.event_feed import EventFeed, Listener
from pawl.domain.errors import Draining, QueueFull
from tests.app.world import World


class Reader:
    """The events of a stream, parsed."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._chunks = aiter(listener.chunks)

    async def next_id(self) -> int:
        async with asyncio.timeout(20):
            while True:
                lines = (await anext(self._chunks)).decode().splitlines()
                if lines[0].startswith("id: "):
                    assert lines[1].startswith("event: ")
                    assert lines[2].startswith("data: {")
                    return int(lines[0].removeprefix("id: "))

    async def close(self) -> None:
        assert isinstance(self._listener.chunks, AsyncIterator)
        self._listener.close()


@pytest.fixture
async def feed(world: World) -> AsyncIterator[EventFeed]:
    feed = EventFeed(world.ledger, world.settings.model_copy(update={"max_listeners": 2}), AppMetrics())
    running = asyncio.create_task(feed.run())
    yield feed
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_events_come_in_order_from_any_place(world: World, feed: EventFeed) -> None:
    for number in range(5):
        await world.ledger.append_event("test", {"number": number})
    from_start, from_now = Reader(await feed.listen(0)), Reader(await feed.listen(None))
    assert [await from_start.next_id() for _ in range(5)] == [1, 2, 3, 4, 5]
    await world.ledger.append_event("test", {})
    assert await from_now.next_id() == 6
    assert await from_start.next_id() == 6


async def test_an_id_of_another_home_begins_at_the_newest_and_says_so(world: World, feed: EventFeed) -> None:
    for _ in range(3):
        await world.ledger.append_event("test", {})
    chunks = aiter((await feed.listen(70)).chunks)
    first = (await anext(chunks)).decode().splitlines()
    assert first[2:4] == ["id: 3", "event: position_reset"]
    told = json.loads(first[4].removeprefix("data: "))
    assert (told["asked"], told["newest"]) == (70, 3)
    await world.ledger.append_event("test", {})
    assert (await anext(chunks)).startswith(b"id: 4\n")
    reader = Reader(await feed.listen(4))
    await world.ledger.append_event("test", {})
    assert await reader.next_id() == 5, "the newest id itself is none of another home"


async def test_listeners_are_bounded_and_give_their_place_back(feed: EventFeed) -> None:
    first, second = await feed.listen(0), await feed.listen(0)
    with pytest.raises(QueueFull):
        await feed.listen(0)
    first.close()
    first.close()
    third = await feed.listen(0)
    assert feed._listeners == 2
    second.close()
    third.close()
    assert feed._listeners == 0
    assert not feed._wanted.is_set()


async def test_streams_end_when_the_feed_closes(feed: EventFeed) -> None:
    listener = await feed.listen(0)
    reading = asyncio.create_task(_read(listener))
    await asyncio.sleep(0)
    feed.close()
    async with asyncio.timeout(20):
        assert await reading == [b"retry: 1000\n\n"]
    with pytest.raises(Draining):
        await feed.listen(0)


async def test_a_page_that_is_full_is_followed_by_the_next(
    world: World, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.serving.event_feed._PAGE", 2)
    for _ in range(5):
        await world.ledger.append_event("test", {})
    reader = Reader(await feed.listen(0))
    assert [await reader.next_id() for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_an_empty_home_of_events(world: World) -> None:
    feed = EventFeed(world.ledger, world.settings, AppMetrics())
    listener = await feed.listen(None)
    assert await anext(aiter(listener.chunks)) == b"retry: 1000\n\n"


async def _read(listener: Listener) -> list[bytes]:
    return [chunk async for chunk in listener.chunks]
