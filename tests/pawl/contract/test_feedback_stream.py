"""The contract of `FeedbackStream`, on a real Redis; then what a server can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from redis.asyncio import Redis

from pawl.ports import FeedbackStream, StreamEntry
from pawl.streams.redis_stream import GROUP, STREAM, RedisFeedbackStream
from tests.polling import eventually
from tests.servers import RedisServer

DEADLINE = 20.0


@pytest.fixture
async def redis_stream(redis_url: str) -> AsyncIterator[RedisFeedbackStream]:
    stream = RedisFeedbackStream(redis_url, max_entries=1000, timeout=2.0)
    yield stream
    await stream.close()


@pytest.fixture
def own_server(short_folder: Path) -> Iterator[RedisServer]:
    """A server that a test may stop, in a folder of its own: entries another test left would end a waiting read."""
    server = RedisServer(Path(mkdtemp(dir=short_folder)))
    server.start()
    yield server
    server.kill()


async def until_blocked(client: Redis, reader: asyncio.Task[list[StreamEntry]]) -> None:
    """Until `reader` waits on the server."""
    while (await client.info("clients"))["blocked_clients"] == 0:
        assert not reader.done(), f"did not wait: {reader}"
        await client.ping()


async def next_hint(stream: FeedbackStream, number: int) -> int:
    """Hints until a subscriber hears it: the subscription is made by the subscriber's first wait."""
    hints = stream.version_hints()
    heard = asyncio.ensure_future(anext(hints))
    try:
        async with asyncio.timeout(DEADLINE):
            while not heard.done():
                await stream.hint_version(number)
                await asyncio.wait([heard], timeout=0.02)
        return heard.result()
    finally:
        heard.cancel()
        await asyncio.gather(heard, return_exceptions=True)
        await hints.aclose()  # type: ignore[attr-defined]  # every implementation is a generator


async def test_ids_arrive_in_order_and_once(stream: FeedbackStream) -> None:
    await stream.announce(["fb_1", "fb_2"])
    await stream.announce(["fb_3"])
    first, second = await stream.read("one", 10, block_ms=0)
    assert (first.sample_ids, first.deliveries) == (("fb_1", "fb_2"), 1)
    assert (second.sample_ids, second.deliveries) == (("fb_3",), 1)
    assert await stream.read("one", 10, block_ms=0) == []
    assert await stream.read("two", 10, block_ms=0) == []


async def test_many_ids_make_entries_of_500(stream: FeedbackStream) -> None:
    ids = [f"fb_{n}" for n in range(1201)]
    await stream.announce(ids)
    await stream.announce([])
    assert await stream.length() == 3
    entries = await stream.read("one", 2, block_ms=0) + await stream.read("one", 2, block_ms=0)
    assert [len(entry.sample_ids) for entry in entries] == [500, 500, 201]
    assert [id for entry in entries for id in entry.sample_ids] == ids


async def test_an_acknowledged_entry_is_gone(stream: FeedbackStream) -> None:
    await stream.announce(["fb_1"])
    [entry] = await stream.read("one", 10, block_ms=0)
    assert await stream.length() == 1
    await stream.ack([entry.entry_id])
    await stream.ack([entry.entry_id])
    await stream.ack([])
    assert await stream.length() == 0
    assert await stream.reclaim("two", 0, 10) == []


async def test_two_consumers_share_the_work(stream: FeedbackStream) -> None:
    for n in range(4):
        await stream.announce([f"fb_{n}"])
    one = await stream.read("one", 2, block_ms=0)
    two = await stream.read("two", 10, block_ms=0)
    assert [entry.sample_ids for entry in one + two] == [(f"fb_{n}",) for n in range(4)]
    assert len(one) == 2


async def test_what_another_consumer_left_is_taken_over_and_counted(stream: FeedbackStream) -> None:
    await stream.announce(["fb_1"])
    await stream.announce(["fb_2"])
    first, second = await stream.read("dead", 10, block_ms=0)
    assert await stream.reclaim("one", 60_000, 10) == []
    [taken] = await stream.reclaim("one", 0, 1)
    assert (taken.entry_id, taken.sample_ids, taken.deliveries) == (first.entry_id, ("fb_1",), 2)
    again = await stream.reclaim("two", 0, 10)
    assert {(entry.entry_id, entry.deliveries) for entry in again} == {(first.entry_id, 3), (second.entry_id, 2)}
    await stream.ack([entry.entry_id for entry in again])
    assert await stream.reclaim("two", 0, 10) == []


async def test_a_read_waits_for_what_comes(stream: FeedbackStream) -> None:
    reader = asyncio.create_task(stream.read("one", 10, block_ms=int(DEADLINE * 1000)))
    await asyncio.sleep(0)
    await stream.announce(["fb_1"])
    [entry] = await asyncio.wait_for(reader, DEADLINE)
    assert entry.sample_ids == ("fb_1",)


async def test_a_read_ends_empty_when_nothing_comes(stream: FeedbackStream) -> None:
    assert await stream.read("one", 10, block_ms=30) == []


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancelled_read_stops_and_harms_nobody(stream: FeedbackStream, steps: int) -> None:
    reader = asyncio.create_task(stream.read("one", 10, block_ms=int(DEADLINE * 1000)))
    for _ in range(steps):
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(reader, DEADLINE / 2)
    await stream.announce(["fb_1"])
    found = await stream.read("two", 10, block_ms=0) + await stream.reclaim("two", 0, 10)
    assert "fb_1" in {id for entry in found for id in entry.sample_ids}


async def test_entries_that_were_trimmed_are_forgotten(stream: FeedbackStream) -> None:
    await stream.announce(["fb_old"])
    assert len(await stream.read("dead", 1, block_ms=0)) == 1
    for n in range(1200):
        await stream.announce([f"fb_{n}"])
    assert 1000 <= await stream.length() < 1201
    assert await stream.reclaim("one", 0, 10) == []
    entries = await stream.read("one", 2000, block_ms=0)
    assert entries[-1].sample_ids == ("fb_1199",)
    await stream.ack([entry.entry_id for entry in entries])
    assert await stream.reclaim("one", 0, 10) == []
    assert await stream.length() == 0


async def test_a_hint_reaches_who_listens(stream: FeedbackStream) -> None:
    await stream.hint_version(6)
    assert await next_hint(stream, 7) == 7
    assert await next_hint(stream, 8) == 8


async def test_pressure_holds_for_a_while_and_is_said_again(stream: FeedbackStream) -> None:
    assert not await stream.under_pressure()
    await stream.tell_pressure(60_000)
    assert await stream.under_pressure()
    await stream.tell_pressure(20)

    async def it_has_passed() -> bool:
        return not await stream.under_pressure()

    await eventually(it_has_passed, DEADLINE)


async def test_a_quiet_stream_is_not_a_dead_server(redis_url: str) -> None:
    stream = RedisFeedbackStream(redis_url, timeout=0.2)
    assert await stream.read("one", 10, block_ms=700) == []
    await stream.close()


async def test_the_group_is_made_again_after_redis_was_emptied(redis_stream: RedisFeedbackStream) -> None:
    client = redis_stream._client
    await redis_stream.announce(["fb_1"])
    [entry] = await redis_stream.read("one", 10, block_ms=0)
    await client.flushall()
    assert await redis_stream.reclaim("one", 0, 10) == []
    await redis_stream.ack([entry.entry_id])
    assert await redis_stream.length() == 0
    await redis_stream.announce(["fb_2"])
    assert [entry.sample_ids for entry in await redis_stream.read("one", 10, block_ms=0)] == [("fb_2",)]


async def test_a_waiting_reader_survives_that_redis_is_emptied(redis_stream: RedisFeedbackStream) -> None:
    client = redis_stream._client
    assert await redis_stream.read("one", 10, block_ms=0) == []
    reader = asyncio.create_task(redis_stream.read("one", 10, block_ms=int(DEADLINE * 1000)))
    async with asyncio.timeout(DEADLINE):
        await until_blocked(client, reader)
        await client.flushall()
        await redis_stream.announce(["fb_1"])
        assert [entry.sample_ids for entry in await reader] == [("fb_1",)]


async def test_an_acknowledgement_leaves_nothing_behind(redis_stream: RedisFeedbackStream) -> None:
    await redis_stream.announce(["fb_1"])
    [entry] = await redis_stream.read("one", 10, block_ms=0)
    await redis_stream.ack([entry.entry_id])
    pending = await redis_stream._client.xpending(STREAM, GROUP)
    assert pending["pending"] == 0


async def test_an_outage_is_a_connection_error_and_ends_by_itself(own_server: RedisServer) -> None:
    stream = RedisFeedbackStream(own_server.url, timeout=2.0)
    await stream.announce(["fb_1"])
    assert len(await stream.read("one", 1, block_ms=0)) == 1
    own_server.stop()
    calls = (
        stream.ping(),
        stream.announce(["fb_2"]),
        stream.read("one", 1, block_ms=100),
        stream.reclaim("one", 0, 1),
        stream.ack(["1-1"]),
        stream.length(),
        stream.hint_version(1),
        stream.tell_pressure(1),
        stream.under_pressure(),
        anext(stream.version_hints()),
    )
    for call in calls:
        with pytest.raises(ConnectionError, match="Redis"):
            await call
    own_server.start()
    await stream.ping()
    [entry] = await stream.reclaim("one", 0, 10)
    assert (entry.sample_ids, entry.deliveries) == (("fb_1",), 2)
    await stream.close()


async def test_a_server_that_hangs_is_a_connection_error(own_server: RedisServer) -> None:
    stream = RedisFeedbackStream(own_server.url, timeout=0.5)
    assert await stream.read("one", 1, block_ms=0) == []
    hints = stream.version_hints()
    listener = asyncio.ensure_future(anext(hints))
    os.kill(own_server.pid, signal.SIGSTOP)
    for call in (stream.ping(), stream.announce(["fb_1"]), stream.read("one", 1, block_ms=10), stream.length()):
        with pytest.raises(ConnectionError, match="not answer in time"):
            await call
    os.kill(own_server.pid, signal.SIGCONT)
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(ConnectionError):
                await stream.announce(["fb_2"])
                break
    found = await stream.read("one", 10, block_ms=0) + await stream.reclaim("one", 0, 10)
    assert "fb_2" in {id for entry in found for id in entry.sample_ids}
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    await stream.close()


async def test_listeners_and_waiting_readers_notice_a_killed_server(own_server: RedisServer) -> None:
    stream = RedisFeedbackStream(own_server.url, timeout=2.0)
    listener = asyncio.ensure_future(anext(stream.version_hints()))
    reader = asyncio.create_task(stream.read("one", 10, block_ms=int(DEADLINE * 1000)))
    client = stream._client
    async with asyncio.timeout(DEADLINE):
        await until_blocked(client, reader)
        while not await client.pubsub_channels():
            await client.ping()
    own_server.kill()
    async with asyncio.timeout(DEADLINE):
        for call in (listener, reader):
            with pytest.raises(ConnectionError):
                await call
    await stream.close()
