"""A roll-back queues again what the labels that it takes away had replaced; on every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pawl.domain.samples import NewSample, Sample, SampleState
from pawl.domain.versions import LedgerChange, VersionKind
from tests.pawl.contract.backends import OpenStores, candidate

TEXT = "where is it"


async def sent(stores: OpenStores, label: str, text: str = TEXT) -> str:
    [receipt] = await stores.samples.accept([NewSample(text, label)])
    return receipt.id


async def replaced(stores: OpenStores, first: str = "card", second: str = "refund") -> tuple[str, str]:
    """Version 1 has learned a label for a text, version 2 another instead of it."""
    old = await sent(stores, first)
    await stores.ledger.promote(candidate(1, None), LedgerChange(learned=(old,)))
    new = await sent(stores, second)
    change = LedgerChange(learned=(new,), replaced={old: new})
    await stores.ledger.promote(candidate(2, 1), change)
    return old, new


async def rolled_back(stores: OpenStores, *gone: str, back_to: int = 1) -> None:
    live = await stores.ledger.live()
    assert live is not None
    version = replace(candidate(live.number + 1, live.number), kind=VersionKind.ROLLBACK)
    await stores.ledger.promote(version, LedgerChange(quarantined=dict.fromkeys(gone, "back"), back_to=back_to))


async def read(stores: OpenStores, *ids: str) -> list[Sample]:
    return [await stores.samples.get(id) for id in ids]


async def test_the_label_that_the_target_had_waits_to_be_learned_again(stores: OpenStores) -> None:
    old, new = await replaced(stores)
    stores.clock.advance(seconds=5)
    await rolled_back(stores, new)
    was, bad = await read(stores, old, new)
    assert (was.state, bad.state) == (SampleState.QUEUED, SampleState.QUARANTINED)
    assert was.reason == "the label that had replaced it was rolled back"
    assert was.updated_at == stores.clock.now()
    assert [one.id for one in await stores.samples.queued(10)] == [old]


async def test_of_several_that_came_after_another_the_one_of_the_target_comes_back(stores: OpenStores) -> None:
    old, middle = await replaced(stores)
    last = await sent(stores, "other")
    change = LedgerChange(learned=(last,), replaced={middle: last})
    await stores.ledger.promote(candidate(3, 2), change)
    await rolled_back(stores, last)
    assert [one.state for one in await read(stores, old, middle, last)] == [
        SampleState.QUEUED,
        SampleState.RETRACTED,
        SampleState.QUARANTINED,
    ]


@pytest.mark.parametrize("back_to", [None, 0])
async def test_what_the_target_did_not_know_stays_out(stores: OpenStores, back_to: int | None) -> None:
    old, new = await replaced(stores)
    version = candidate(3, 2)
    await stores.ledger.promote(version, LedgerChange(quarantined={new: "back"}, back_to=back_to))
    assert (await stores.samples.get(old)).state is SampleState.RETRACTED


async def test_what_a_client_took_back_after_it_was_replaced_stays_out(stores: OpenStores) -> None:
    old, new = await replaced(stores)
    assert (await stores.samples.request_retraction(old)).state is SampleState.RETRACTED
    await rolled_back(stores, new)
    [was] = await read(stores, old)
    assert (was.state, was.reason) == (SampleState.RETRACTED, "retracted by the client")


async def test_the_same_label_sent_again_is_not_doubled(stores: OpenStores) -> None:
    old, new = await replaced(stores)
    again = await sent(stores, "card")
    await stores.ledger.promote(candidate(3, 2), LedgerChange(learned=(again,), replaced={new: again}))
    await rolled_back(stores, again)
    assert [one.state for one in await read(stores, old, again)] == [SampleState.RETRACTED, SampleState.QUARANTINED]


async def test_a_label_that_is_none_any_more_stays_out(stores: OpenStores) -> None:
    old, new = await replaced(stores, first="former")
    await rolled_back(stores, new)
    assert (await stores.samples.get(old)).state is SampleState.RETRACTED


async def test_other_texts_are_left_alone(stores: OpenStores) -> None:
    old, new = await replaced(stores)
    other = await sent(stores, "card", "another text")
    await stores.ledger.promote(candidate(3, 2), LedgerChange(learned=(other,)))
    await rolled_back(stores, other, back_to=2)
    assert [one.state for one in await read(stores, old, new)] == [SampleState.RETRACTED, SampleState.LEARNED]
