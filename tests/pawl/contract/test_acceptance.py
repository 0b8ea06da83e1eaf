"""The contract of `SampleStore.accept`, on every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pawl.domain.errors import IdempotencyConflict, ItemsRefused
from pawl.domain.samples import (
    IdempotencyKey,
    NewSample,
    Origin,
    Receipt,
    Sample,
    SampleState,
    Split,
    digest_text,
    split_of,
)
from tests.pawl.contract.backends import OpenStores


async def test_an_accepted_item_is_stored_with_all_its_fields(stores: OpenStores) -> None:
    item = NewSample(
        text="  Where is my CARD? ",
        label="card_arrival",
        task="topic",
        weight=2.5,
        source="agent-7",
        origin=Origin.IMPORT,
        prediction_id="pr_1",
        served_version=12,
        served_label="lost_card",
        served_by="words",
        pinned=True,
        create_task=True,
    )
    [receipt] = await stores.samples.accept([item])
    assert receipt == Receipt(receipt.id, SampleState.QUEUED, is_new=True)
    assert receipt.id.startswith("fb_")
    digest = digest_text("where is my card?")
    assert await stores.samples.get(receipt.id) == Sample(
        id=receipt.id,
        seq=1,
        task="topic",
        text="  Where is my CARD? ",
        text_digest=digest,
        label="card_arrival",
        weight=2.5,
        source="agent-7",
        origin=Origin.IMPORT,
        prediction_id="pr_1",
        served_version=12,
        served_label="lost_card",
        served_by="words",
        split=split_of(digest, 0.1),
        pinned=True,
        state=SampleState.QUEUED,
        reason=None,
        learned_in_version=None,
        retract_requested=False,
        created_at=stores.clock.now(),
        updated_at=stores.clock.now(),
    )


async def test_receipts_come_in_the_order_of_the_items(stores: OpenStores) -> None:
    items = [NewSample(f"text {n}", "a") for n in (3, 1, 2, 1)]
    receipts = await stores.samples.accept(items)
    assert [receipt.is_new for receipt in receipts] == [True, True, True, False]
    assert receipts[1].id == receipts[3].id
    stored = await stores.samples.get_many([receipt.id for receipt in reversed(receipts)])
    assert [sample.text for sample in stored] == ["text 3", "text 1", "text 2"]
    assert await stores.samples.accept([]) == []


async def test_the_same_text_and_label_again_is_the_same_sample_while_it_is_active(stores: OpenStores) -> None:
    first = await stores.accept("Hello  World", "a")
    assert await stores.accept("hello world", "a") == Receipt(first.id, SampleState.QUEUED, is_new=False)
    assert (await stores.accept("hello world", "a", task="other")).is_new
    await stores.learn(first)
    assert await stores.accept("HELLO WORLD", "a") == Receipt(first.id, SampleState.LEARNED, is_new=False)


@pytest.mark.parametrize("state", [SampleState.REJECTED, SampleState.DEAD, SampleState.RETRACTED])
async def test_a_sample_that_is_gone_does_not_stand_in_the_way(stores: OpenStores, state: SampleState) -> None:
    first = await stores.accept("text", "a")
    await stores.samples.settle(state, {first.id: "why"})
    second = await stores.accept("text", "a")
    assert second.is_new
    assert second.id != first.id


async def test_a_label_that_was_changed_and_changed_back_is_a_new_sample(stores: OpenStores) -> None:
    first, other, back = [await stores.accept("text", label) for label in ("a", "b", "a")]
    assert other.is_new
    assert back.is_new
    assert len({first.id, other.id, back.id}) == 3
    assert await stores.accept("text", "a") == Receipt(back.id, SampleState.QUEUED, is_new=False)
    again = [await stores.accept("text", label) for label in ("b", "a", "b")]
    assert all(receipt.is_new for receipt in again)
    assert len(await stores.samples.queued(10)) == 6


async def test_changes_of_mind_within_one_call_count_one_by_one(stores: OpenStores) -> None:
    receipts = await stores.samples.accept([NewSample("text", label) for label in "abaab"])
    assert [receipt.is_new for receipt in receipts] == [True, True, True, False, True]
    assert receipts[3].id == receipts[2].id


async def test_a_sample_about_to_be_retracted_does_not_take_a_new_one_with_it(stores: OpenStores) -> None:
    first = await stores.accept("text", "a")
    await stores.learn(first)
    await stores.samples.request_retraction(first.id)
    second = await stores.accept("text", "a")
    assert second.is_new
    assert await stores.accept("text", "a") == replace(second, is_new=False)


async def test_golden_samples_judge_and_are_never_queued(stores: OpenStores) -> None:
    gold = await stores.accept("text", "a", golden=True, pinned=True)
    assert gold.state is SampleState.GOLDEN
    sample = await stores.samples.get(gold.id)
    assert (sample.split, sample.pinned) == (Split.GOLDEN, True)
    assert await stores.samples.queued(10) == []
    assert await stores.samples.golden("default", 10) == [sample]
    again = await stores.accept("text", "a")
    assert again == Receipt(gold.id, SampleState.GOLDEN, is_new=False, warnings=again.warnings)
    assert "stays golden" in again.warnings[0]


async def test_the_split_is_that_of_the_normalised_text(stores: OpenStores) -> None:
    receipts = await stores.samples.accept([NewSample(f"Text  {n}", "a") for n in range(200)])
    samples = await stores.samples.get_many([receipt.id for receipt in receipts])
    assert all(sample.split is split_of(digest_text(f"text {n}"), 0.1) for n, sample in enumerate(samples))
    assert {sample.split for sample in samples} == {Split.TRAIN, Split.HELDOUT}


async def test_a_key_seen_before_gives_the_first_receipts_whatever_happened_since(stores: OpenStores) -> None:
    key = IdempotencyKey("key", "body")
    items = [NewSample("one", "a"), NewSample("one", "a")]
    first = await stores.samples.accept(items, key)
    await stores.learn(first[0])
    stores.clock.advance(hours=23.9)
    assert await stores.samples.accept(items, key) == first
    assert [receipt.state for receipt in first] == [SampleState.QUEUED] * 2


async def test_a_key_with_another_body_is_refused_and_stores_nothing(stores: OpenStores) -> None:
    await stores.samples.accept([NewSample("one", "a")], IdempotencyKey("key", "body"))
    with pytest.raises(IdempotencyConflict, match="'key'"):
        await stores.samples.accept([NewSample("two", "a")], IdempotencyKey("key", "other"))
    assert (await stores.samples.backlog()).length == 1


async def test_a_key_is_forgotten_after_its_time(stores: OpenStores) -> None:
    await stores.samples.accept([NewSample("one", "a")], IdempotencyKey("key", "body"))
    stores.clock.advance(hours=24)
    [receipt] = await stores.samples.accept([NewSample("two", "a")], IdempotencyKey("key", "other"))
    assert receipt.is_new


async def test_twenty_identical_submissions_at_once_make_one_sample(stores: OpenStores) -> None:
    answers = await asyncio.gather(*(stores.samples.accept([NewSample("same", "a")]) for _ in range(20)))
    assert len({receipts[0].id for receipts in answers}) == 1
    assert sum(receipts[0].is_new for receipts in answers) == 1
    assert (await stores.samples.backlog()).length == 1


async def test_twenty_identical_requests_with_one_key_get_one_answer(stores: OpenStores) -> None:
    key = IdempotencyKey("key", "body")
    items = [NewSample("one", "a"), NewSample("two", "b")]
    answers = await asyncio.gather(*(stores.samples.accept(items, key) for _ in range(20)))
    assert all(receipts == answers[0] for receipts in answers)
    assert (await stores.samples.backlog()).length == 2


async def test_overlapping_batches_in_opposite_orders_neither_deadlock_nor_double(stores: OpenStores) -> None:
    items = [NewSample(f"text {n}", "ab"[n % 2]) for n in range(40)]
    await asyncio.gather(*(stores.samples.accept(items[:: 1 if n % 2 else -1]) for n in range(8)))
    assert (await stores.samples.backlog()).length == 40


async def test_labels_that_change_back_and_forth_at_once_leave_one_in_force_each(stores: OpenStores) -> None:
    answers = await asyncio.gather(*(stores.accept("text", "ab"[n % 2]) for n in range(20)))
    stored = {sample.id: sample for sample in await stores.samples.queued(100)}
    assert {receipt.id for receipt in answers} == set(stored)
    labels = [sample.label for sample in stored.values()]
    assert all(one != next_ for one, next_ in pairwise(labels))


async def test_ten_thousand_items_in_one_call(stores: OpenStores) -> None:
    items = [NewSample(f"text {n}", f"label {n % 77}", origin=Origin.IMPORT) for n in range(10_000)]
    receipts = await stores.samples.accept(items)
    ids = [receipt.id for receipt in receipts]
    assert len(set(ids)) == 10_000
    assert [sample.text for sample in await stores.samples.get_many(ids)] == [item.text for item in items]
    await stores.samples.put_embeddings("e", {id: np.ones(4, np.float32) for id in ids[:2000]})
    assert len(await stores.samples.get_embeddings("e", ids)) == 2000
    await stores.learn(*receipts)
    assert len(await stores.samples.learned("default")) == 10_000
    assert len(await stores.ledger.ledger(0)) == 10_000
    repeated = await stores.samples.accept(items)
    assert repeated == [Receipt(id, SampleState.LEARNED, is_new=False) for id in ids]


async def test_a_call_that_fails_stores_nothing(stores: OpenStores) -> None:
    with pytest.raises(ItemsRefused, match="Item 1, label: it must be a string"):
        await stores.samples.accept(
            [NewSample("one", "a"), NewSample("two", None)],  # type: ignore[arg-type]  # the point
            IdempotencyKey("key", "body"),
        )
    assert (await stores.count("samples"), await stores.count("idempotency_keys")) == (0, 0)
