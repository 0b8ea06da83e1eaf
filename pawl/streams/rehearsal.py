"""Tries what Pawl does with Redis on keys of its own, so that `pawl doctor` finds faults and missing rights."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import cast

from pawl.ports.stream import StreamUnavailable
from pawl.streams.redis_stream import RedisFeedbackStream

_SAMPLE = "fb_doctor"
_HINT = 7
_HINT_TRIES = 20
_NOT_THIS_KEY = "permissions to access"  # of the command itself it would be "permissions to run"


async def rehearse(url: str, seconds: float) -> None:
    """Announces a sample, consumes and acknowledges it, hints at a version and hears it, tells pressure and reads it.

    All on keys below `pawl:doctor:`, which are removed. Where the user has no rights on these, the rights on the keys
    that Pawl uses are tried in ways that change nothing. Raises `StreamUnavailable` with the server's reason.
    """
    # A prefix of its own: two doctors at once would read each other's sample, and a learner must not be given it.
    stream = RedisFeedbackStream(url, timeout=seconds, prefix=f"pawl:doctor:{secrets.token_hex(4)}:")
    try:
        await _play(stream)
    except StreamUnavailable as error:
        if _NOT_THIS_KEY not in error.said:
            raise
    finally:
        await stream.close()
    real = RedisFeedbackStream(url, timeout=seconds)
    try:
        await real.check_rights()
    finally:
        await real.close()


@dataclass(frozen=True, slots=True)
class Described:
    """A server's name and version, and what it keeps on disk: "" is nothing, None that it may not be asked."""

    name: str
    persistence: str | None


async def described(url: str, seconds: float) -> Described:
    """Asks the server (INFO). A user may be kept from that, and Pawl does not need it."""
    stream = RedisFeedbackStream(url, timeout=seconds)
    try:
        info = await stream.info()
    except StreamUnavailable:
        return Described("Redis", None)
    finally:
        await stream.close()
    name = f"Redis {info.get('redis_version', '')}".strip()
    if info.get("aof_enabled"):
        return Described(name, "append-only file on")
    return Described(name, "snapshots only" if info.get("rdb_last_save_time") else "")


async def _play(stream: RedisFeedbackStream) -> None:
    try:
        await stream.announce([_SAMPLE])
        entries = await stream.read("doctor", 1, block_ms=1000)
        if [entry.sample_ids for entry in entries] != [(_SAMPLE,)]:
            raise StreamUnavailable("what is announced does not arrive", f"read {entries}")
        await stream.reclaim("doctor", 0, 1)
        await stream.ack([entry.entry_id for entry in entries])
        if await stream.length():
            raise StreamUnavailable("what is acknowledged stays", f"{await stream.length()} entries")
        await _hear_a_hint(stream)
        await stream.tell_pressure(60_000)
        if not await stream.under_pressure():
            raise StreamUnavailable("what is written cannot be read back")
    finally:
        with contextlib.suppress(StreamUnavailable):
            await stream.remove()


async def _hear_a_hint(stream: RedisFeedbackStream) -> None:
    hints = cast("AsyncGenerator[int]", stream.version_hints())
    heard = asyncio.ensure_future(anext(hints))
    try:
        for _ in range(_HINT_TRIES):  # what is published before the subscription is there is lost
            await stream.hint_version(_HINT)
            await asyncio.wait([heard], timeout=0.05)
            if heard.done():
                await heard  # or raises what refused the subscription
                return
        raise StreamUnavailable("what is published is not heard")
    finally:
        heard.cancel()
        await asyncio.gather(heard, return_exceptions=True)
        await hints.aclose()
