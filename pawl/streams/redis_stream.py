"""Transport over Redis: a stream with one consumer group for sample ids, pub/sub and a key for the hints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from pawl.deadlines import within_budget
from pawl.domain.errors import SettingInvalid
from pawl.ports import StreamEntry
from pawl.streams.faults import unavailable

PREFIX = "pawl:"
STREAM = f"{PREFIX}feedback"
GROUP = "learner"
IDS_PER_ENTRY = 500  # an import of a million samples is 2,000 entries, far below `max_entries`
_FIELD = "ids"
_ENTRIES_PER_CALL = 100
_HINT_SECONDS = 5.0  # how long one wait for a hint lasts
# A blocked read is answered with UNBLOCKED (Redis 6) or NOGROUP (7) when the stream vanishes under it.
_GROUP_MISSING = ("NOGROUP", "UNBLOCKED")


class RedisFeedbackStream:
    """`FeedbackStream` on a Redis server (6.2 or newer). Connects when it is first used, and again after an outage.

    `url` may be `redis://`, `rediss://` or `unix://`. `max_entries` bounds the stream: beyond it the oldest entries
    go (about; their samples are swept from SQL). `timeout` (s) bounds every answer the server owes. All its keys and
    its channel begin with `prefix`.
    """

    carries = True

    def __init__(self, url: str, *, max_entries: int = 100_000, timeout: float = 5.0, prefix: str = PREFIX) -> None:
        self._url = url
        self._stream, self._versions, self._pressure = f"{prefix}feedback", f"{prefix}versions", f"{prefix}pressure"
        self._max_entries = max_entries
        self._timeout = timeout
        # A pooled connection is stale after a restart of the server: one retry, on a fresh one.
        self._client = _client(url, timeout, retries=1)
        # The subscription must not reconnect by itself: hints were lost meanwhile, and its reader has to know.
        self._subscriber = _client(url, timeout, retries=0)

    @asynccontextmanager
    async def _call(self, patience: float = 0.0) -> AsyncIterator[None]:
        """Raises `StreamUnavailable` for faults of Redis, and without an answer within timeout plus `patience` (s)."""
        try:
            async with within_budget(), asyncio.timeout(self._timeout + patience):
                yield
        except (RedisError, OSError) as error:
            raise unavailable(error, self._url) from error

    async def announce(self, sample_ids: Sequence[str]) -> None:
        """See `FeedbackStream.announce`."""
        entries = [sample_ids[at : at + IDS_PER_ENTRY] for at in range(0, len(sample_ids), IDS_PER_ENTRY)]
        async with self._call():
            for at in range(0, len(entries), _ENTRIES_PER_CALL):
                # No MULTI: what of an announcement is lost, the sweep brings.
                async with self._client.pipeline(transaction=False) as pipeline:
                    for ids in entries[at : at + _ENTRIES_PER_CALL]:
                        pipeline.xadd(self._stream, {_FIELD: ",".join(ids)}, maxlen=self._max_entries, approximate=True)
                    await pipeline.execute()

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """See `FeedbackStream.read`."""
        async with self._call(patience=block_ms / 1000):
            try:
                answer = await self._read_group(consumer, count, block_ms)
            except ResponseError as error:
                if not str(error).startswith(_GROUP_MISSING):
                    raise
                await self._create_group()
                answer = await self._read_group(consumer, count, block_ms)
        return [_entry(id, fields, 1) for _, entries in answer or () for id, fields in entries]

    async def _read_group(self, consumer: str, count: int, block_ms: int) -> Any:
        block = block_ms or None  # BLOCK 0 would wait for ever
        return await self._client.xreadgroup(GROUP, consumer, {self._stream: ">"}, count=count, block=block)

    async def _create_group(self) -> None:
        try:
            # From the start: what was announced before the group existed is delivered, too.
            await self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def reclaim(self, consumer: str, min_idle_ms: int, count: int) -> list[StreamEntry]:
        """See `FeedbackStream.reclaim`. Entries that were trimmed while they were pending are forgotten.

        XPENDING and XCLAIM instead of XAUTOCLAIM: the count of deliveries is needed, and Redis 6 does not say which
        of the entries it claims are gone from the stream.
        """
        async with self._call():
            try:
                pending = await self._client.xpending_range(
                    self._stream, GROUP, min="-", max="+", count=count, idle=min_idle_ms
                )
            except ResponseError as error:
                if not str(error).startswith(_GROUP_MISSING):
                    raise
                return []
            deliveries = {str(entry["message_id"]): int(entry["times_delivered"]) for entry in pending}
            if not deliveries:
                return []
            claimed: Any = await self._client.xclaim(self._stream, GROUP, consumer, min_idle_ms, [*deliveries])
            fields_of = {str(id): fields for id, fields in claimed if fields}
            await self._forget_trimmed([id for id in deliveries if id not in fields_of])
            return [_entry(id, fields, deliveries[id] + 1) for id, fields in fields_of.items()]

    async def _forget_trimmed(self, entry_ids: Sequence[str]) -> None:
        for entry_id in entry_ids:
            # Not found may also mean that another consumer was quicker: then it is on the stream still.
            if not await self._client.xrange(self._stream, min=entry_id, max=entry_id):
                await self._client.xack(self._stream, GROUP, entry_id)

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """See `FeedbackStream.ack`."""
        if not entry_ids:
            return
        # Together: acknowledged and not deleted, an entry would count in `length` for ever.
        async with self._call(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.xack(self._stream, GROUP, *entry_ids)
            pipeline.xdel(self._stream, *entry_ids)
            await pipeline.execute()

    async def length(self) -> int:
        """See `FeedbackStream.length`."""
        async with self._call():
            return int(await self._client.xlen(self._stream))

    async def hint_version(self, number: int) -> None:
        """See `FeedbackStream.hint_version`."""
        async with self._call():
            await self._client.publish(self._versions, str(number))

    async def version_hints(self) -> AsyncIterator[int]:
        """See `FeedbackStream.version_hints`. Subscribes when the first hint is asked for."""
        async with self._subscriber.pubsub(ignore_subscribe_messages=True) as subscription:
            async with self._call():
                await subscription.subscribe(self._versions)
            while True:
                async with self._call(patience=_HINT_SECONDS):
                    message = await subscription.get_message(timeout=_HINT_SECONDS)
                # The channel is not Pawl's alone: anyone may publish there.
                if message is not None and str(message["data"]).isdecimal():
                    yield int(message["data"])

    async def tell_pressure(self, ms: int) -> None:
        """See `FeedbackStream.tell_pressure`."""
        async with self._call():
            await self._client.set(self._pressure, "1", px=ms)

    async def under_pressure(self) -> bool:
        """See `FeedbackStream.under_pressure`."""
        async with self._call():
            return bool(await self._client.exists(self._pressure))

    async def check_rights(self) -> None:
        """Raises `StreamUnavailable` where the user lacks a right on the keys.

        It changes nothing that a learner or an app notices: the entry it adds names no samples and is removed at once.
        """
        async with self._call():
            entry_id = await self._client.xadd(self._stream, {_FIELD: ""}, maxlen=self._max_entries, approximate=True)
            await self._client.xdel(self._stream, entry_id)
            try:
                await self._client.xreadgroup(GROUP, "doctor", {self._stream: "0"}, count=1)  # what it was given before
                await self._client.xpending_range(self._stream, GROUP, min="-", max="+", count=1)
                await self._client.xack(self._stream, GROUP, "0-0")
                with suppress(ResponseError):  # tidier, and nothing that Pawl needs
                    await self._client.xgroup_delconsumer(self._stream, GROUP, "doctor")
            except ResponseError as error:
                if not str(error).startswith(_GROUP_MISSING):
                    raise
            await self._client.xlen(self._stream)
            await self._client.publish(self._versions, "0")
            await self._client.set(self._pressure, "1", px=1)
            await self._client.exists(self._pressure)
        async with self._subscriber.pubsub() as subscription, self._call(patience=_HINT_SECONDS):
            await subscription.subscribe(self._versions)
            await subscription.get_message(timeout=_HINT_SECONDS)  # that it is subscribed, or why not

    async def info(self) -> dict[str, Any]:
        """Returns the answer to INFO: the server's version and persistence."""
        async with self._call():
            return {**await self._client.info("server"), **await self._client.info("persistence")}

    async def remove(self) -> None:
        """Deletes the keys of this prefix, after a rehearsal."""
        async with self._call():
            await self._client.delete(self._stream, self._pressure)

    async def ping(self) -> None:
        """See `FeedbackStream.ping`."""
        async with self._call():
            await self._client.ping()

    async def close(self) -> None:
        """See `FeedbackStream.close`."""
        async with self._call():
            await self._client.aclose()
            await self._subscriber.aclose()


def _client(url: str, timeout: float, retries: int) -> Redis:
    try:
        return _from_url(url, timeout, retries)
    except ValueError as error:
        raise SettingInvalid(name="PAWL_REDIS_URL", value="***", problem=str(error)) from error


def _from_url(url: str, timeout: float, retries: int) -> Redis:
    return Redis.from_url(
        url,
        protocol=2,  # what every supported server speaks without a handshake
        decode_responses=True,
        # Calls are timed by `asyncio.timeout` around them. The client's own timeout would end a blocked read, and is
        # made with `asyncio.wait_for`, which can swallow a cancellation (Python 3.11): the learner would not stop.
        socket_timeout=None,
        socket_connect_timeout=timeout,
        health_check_interval=15,
        retry=Retry(NoBackoff(), retries),
    )


def _entry(entry_id: str, fields: dict[str, str], deliveries: int) -> StreamEntry:
    ids = fields.get(_FIELD, "")
    return StreamEntry(entry_id, tuple(ids.split(",")) if ids else (), deliveries)
