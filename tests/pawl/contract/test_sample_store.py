"""The contract of the rest of `SampleStore`, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from pawl.domain.errors import SampleNotFound
from pawl.domain.samples import (
    Backlog,
    NewSample,
    SampleState,
)
from pawl.domain.versions import LedgerChange, VersionKind
from pawl.ports import SampleStore
from tests.pawl.contract.backends import OpenStores, candidate


async def test_unknown_ids(stores: OpenStores) -> None:
    for call in (stores.samples.get, stores.samples.request_retraction):
        with pytest.raises(SampleNotFound, match="fb_no"):
            await call("fb_no")
    assert await stores.samples.get_many(["fb_no"]) == []
    assert await stores.samples.get_embeddings("e", ["fb_no"]) == {}
    assert await stores.samples.settle(SampleState.DEAD, {"fb_no": "x"}) == 0
    assert await stores.samples.versions_trained_on("fb_no") == []


async def test_queued_is_oldest_first_and_knows_pending_retractions(stores: OpenStores) -> None:
    receipts = await stores.samples.accept([NewSample(f"text {n}", "a") for n in range(4)])
    await stores.learn(*receipts[:2])
    stores.clock.advance(seconds=10)
    new = await stores.accept("new", "a")
    retracting = await stores.samples.request_retraction(receipts[0].id)
    assert retracting.retract_requested
    ids = [receipts[0].id, receipts[2].id, receipts[3].id, new.id]
    assert [sample.id for sample in await stores.samples.queued(10)] == ids
    assert [sample.id for sample in await stores.samples.queued(2)] == ids[:2]
    old = await stores.samples.queued(10, older_than=stores.clock.now())
    assert [sample.id for sample in old] == ids[1:3]


async def test_the_backlog_counts_what_waits(stores: OpenStores) -> None:
    assert await stores.samples.backlog() == Backlog(0, None)
    first = await stores.accept("one", "a")
    since = stores.clock.now()
    stores.clock.advance(seconds=5)
    second = await stores.accept("two", "a")
    assert await stores.samples.backlog() == Backlog(2, since)
    await stores.learn(first)
    assert await stores.samples.backlog() == Backlog(1, stores.clock.now())
    await stores.learn(second)
    assert await stores.samples.backlog() == Backlog(0, None)


async def test_rivals_are_the_other_samples_of_the_same_text_and_task(stores: OpenStores) -> None:
    learned = await stores.accept("text", "a")
    await stores.learn(learned)
    queued = await stores.accept("TEXT", "b")
    gone = await stores.accept("text", "c")
    await stores.samples.settle(SampleState.DEAD, {gone.id: "x"})
    await stores.accept("text", "a", task="other")
    await stores.accept("another text", "a")
    newest = await stores.samples.get((await stores.accept("text", "d")).id)
    assert [sample.id for sample in await stores.samples.rivals([newest])] == [learned.id, queued.id]
    assert await stores.samples.rivals([]) == []


async def test_settling_moves_queued_samples_only(stores: OpenStores) -> None:
    receipts = await stores.samples.accept([NewSample(f"text {n}", "a") for n in range(3)])
    await stores.learn(receipts[0])
    stores.clock.advance(seconds=1)
    assert await stores.samples.settle(SampleState.DEAD, {receipt.id: f"r{receipt.id}" for receipt in receipts}) == 2
    states = [(sample.state, sample.reason) for sample in await stores.samples.get_many([r.id for r in receipts])]
    dead = [(SampleState.DEAD, f"r{receipt.id}") for receipt in receipts[1:]]
    assert states == [(SampleState.LEARNED, None), *dead]
    assert (await stores.samples.get(receipts[1].id)).updated_at == stores.clock.now()
    with pytest.raises(ValueError, match="learned"):
        await stores.samples.settle(SampleState.LEARNED, {receipts[1].id: "x"})


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (SampleState.QUEUED, SampleState.RETRACTED),
        (SampleState.QUARANTINED, SampleState.RETRACTED),
        (SampleState.GOLDEN, SampleState.RETRACTED),
        (SampleState.LEARNED, SampleState.LEARNED),
        (SampleState.DEAD, SampleState.RETRACTED),
        (SampleState.REJECTED, SampleState.REJECTED),
    ],
)
async def test_a_retraction_takes_effect_at_once_unless_the_head_holds_it(
    stores: OpenStores, state: SampleState, after: SampleState
) -> None:
    receipt = await stores.accept("text", "a", golden=state is SampleState.GOLDEN)
    if state is SampleState.LEARNED:
        await stores.learn(receipt)
    elif receipt.state is not state:
        await stores.samples.settle(state, {receipt.id: "settled"})
    stores.clock.advance(seconds=1)
    sample = await stores.samples.request_retraction(receipt.id)
    assert sample.state is after
    assert sample.retract_requested is (state is SampleState.LEARNED)
    assert (sample.reason == "retracted by the client") is (after is SampleState.RETRACTED)
    stores.clock.advance(seconds=1)
    assert await stores.samples.request_retraction(receipt.id) == sample == await stores.samples.get(receipt.id)


async def test_what_was_learned_can_be_paged_and_counted(stores: OpenStores) -> None:
    receipts = await stores.samples.accept([NewSample(f"text {n}", "aab"[n % 3]) for n in range(9)])
    other = await stores.accept("text", "z", task="mood")
    third = await stores.accept("text", "z", task="a-third")
    await stores.samples.settle(SampleState.DEAD, {third.id: "x"})
    await stores.accept("waiting", "c")
    await stores.learn(*receipts, other)
    assert await stores.samples.tasks() == ["default", "mood"]
    assert await stores.samples.label_counts("default") == {"a": 6, "b": 3}
    assert await stores.samples.label_counts("nothing") == {}
    first = await stores.samples.learned("default", limit=4)
    rest = await stores.samples.learned("default", after_seq=first[-1].seq)
    assert [sample.id for sample in first + rest] == [receipt.id for receipt in receipts]
    assert [sample.text for sample in await stores.samples.learned_with_label("default", "b", 2)] == [
        "text 2",
        "text 5",
    ]


async def test_embeddings_are_kept_for_each_encoder(stores: OpenStores) -> None:
    store: SampleStore = stores.samples
    vectors = {f"fb_{n}": np.linspace(n, n + 1, 5, dtype=np.float32) for n in range(3)}
    await store.put_embeddings("one", vectors)
    await store.put_embeddings("two", {"fb_0": np.zeros(3, np.float32)})
    await store.put_embeddings("one", {"fb_1": np.full(5, -1, np.float32)})
    await store.put_embeddings("one", {})
    found = await store.get_embeddings("one", ["fb_2", "fb_1", "fb_9", "fb_2"])
    assert found.keys() == {"fb_1", "fb_2"}
    assert found["fb_2"].dtype == np.float32
    np.testing.assert_array_equal(found["fb_2"], vectors["fb_2"])
    np.testing.assert_array_equal(found["fb_1"], np.full(5, -1, np.float32))
    assert await store.drop_embeddings(keep=["two"]) == 3
    assert await store.get_embeddings("one", list(vectors)) == {}
    assert (await store.get_embeddings("two", ["fb_0"])).keys() == {"fb_0"}
    assert await store.drop_embeddings(keep=[]) == 1


async def test_the_versions_whose_encoder_saw_a_sample_are_known(stores: OpenStores) -> None:
    one, two = [await stores.accept(text, "a") for text in ("one", "two")]
    await stores.learn(one, two)
    number = await stores.ledger.next_number()
    trained = candidate(number, number - 1, VersionKind.CONSOLIDATION)
    await stores.ledger.promote(trained, LedgerChange(trained=(one.id,)))
    assert await stores.samples.versions_trained_on(one.id) == [number]
    assert await stores.samples.versions_trained_on(two.id) == []
