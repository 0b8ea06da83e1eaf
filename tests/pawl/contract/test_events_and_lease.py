"""The contract of `VersionLedger`'s events and lease, on every backend."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from tests.pawl.contract.backends import OpenStores


async def test_events_are_numbered_in_order_and_never_reuse_a_number(stores: OpenStores) -> None:
    written = await asyncio.gather(*(stores.ledger.append_event("alert", {"n": n}) for n in range(10)))
    read = await stores.ledger.events(0, 100)
    assert sorted(written, key=lambda event: event.id) == read
    assert [event.payload["n"] for event in await stores.ledger.events(read[3].id, 2)] == [
        event.payload["n"] for event in read[4:6]
    ]
    assert await stores.ledger.last_event_id() == read[-1].id
    assert await stores.ledger.expire_events(keep=3) == 7
    assert await stores.ledger.events(0, 100) == read[-3:]
    assert await stores.ledger.expire_events(keep=3) == 0
    assert await stores.ledger.expire_events(keep=0) == 3
    assert (await stores.ledger.append_event("alert", {})).id > read[-1].id


async def test_a_lease_has_one_holder_until_it_ends(stores: OpenStores) -> None:
    assert await stores.ledger.acquire_lease("one", 5.0, "starting", {"pid": 1})
    stores.clock.advance(seconds=4)
    assert not await stores.ledger.acquire_lease("two", 5.0, "starting", {})
    assert await stores.ledger.acquire_lease("one", 5.0, "learning", {"pid": 1, "version": 3})
    status = await stores.ledger.learner_status()
    assert status is not None
    assert asdict(status) == {
        "holder": "one",
        "state": "learning",
        "heartbeat_at": stores.clock.now(),
        "expires_at": stores.clock.now().replace(second=9),
        "details": {"pid": 1, "version": 3},
    }
    stores.clock.advance(seconds=5)
    assert await stores.ledger.acquire_lease("two", 5.0, "starting", {})
    assert not await stores.ledger.acquire_lease("one", 5.0, "learning", {})


async def test_a_lease_given_back_is_free_at_once(stores: OpenStores) -> None:
    assert await stores.ledger.acquire_lease("one", 5.0, "learning", {})
    await stores.ledger.release_lease("two")
    assert not await stores.ledger.acquire_lease("two", 5.0, "starting", {})
    await stores.ledger.release_lease("one")
    status = await stores.ledger.learner_status()
    assert status is not None
    assert (status.holder, status.expires_at) == ("one", stores.clock.now())
    assert await stores.ledger.acquire_lease("two", 5.0, "starting", {})


async def test_of_ten_that_want_the_lease_at_once_one_gets_it(stores: OpenStores) -> None:
    taken = await asyncio.gather(*(stores.ledger.acquire_lease(f"holder {n}", 5.0, "x", {}) for n in range(10)))
    assert sum(taken) == 1
