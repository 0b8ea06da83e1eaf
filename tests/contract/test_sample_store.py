"""The contract of `SampleStore`, on every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sqlalchemy.exc import IntegrityError

from app.core.domain.errors import IdempotencyConflict, SampleNotFound
from app.core.domain.samples import (
    Backlog,
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
from app.core.domain.versions import LedgerChange, VersionKind
from app.core.ports import SampleStore
from tests.contract.backends import Stores, candidate, on_databases


async def accept(stores: Stores, text: str, label: str, **fields: object) -> Receipt:
    item = replace(NewSample(text, label), **fields)  # type: ignore[arg-type]  # a test's shorthand
    return (await stores.samples.accept([item]))[0]


async def learn(stores: Stores, *receipts: Receipt, change: LedgerChange | None = None) -> int:
    """Promotes a version that learned these; returns its number."""
    number = await stores.ledger.next_number()
    live = await stores.ledger.live()
    learned = tuple(receipt.id for receipt in receipts)
    version = candidate(number, live.number if live else None)
    await stores.ledger.promote(version, change or LedgerChange(learned=learned))
    return number


async def test_an_accepted_item_is_stored_with_all_its_fields(stores: Stores) -> None:
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
        pinned=True,
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
        split=split_of(digest, 0.1),
        pinned=True,
        state=SampleState.QUEUED,
        reason=None,
        learned_in_version=None,
        retract_requested=False,
        created_at=stores.clock.now(),
        updated_at=stores.clock.now(),
    )


async def test_receipts_come_in_the_order_of_the_items(stores: Stores) -> None:
    items = [NewSample(f"text {n}", "a") for n in (3, 1, 2, 1)]
    receipts = await stores.samples.accept(items)
    assert [receipt.is_new for receipt in receipts] == [True, True, True, False]
    assert receipts[1].id == receipts[3].id
    stored = await stores.samples.get_many([receipt.id for receipt in reversed(receipts)])
    assert [sample.text for sample in stored] == ["text 3", "text 1", "text 2"]
    assert await stores.samples.accept([]) == []


async def test_the_same_text_and_label_again_is_the_same_sample_while_it_is_active(stores: Stores) -> None:
    first = await accept(stores, "Hello  World", "a")
    assert await accept(stores, "hello world", "a") == Receipt(first.id, SampleState.QUEUED, is_new=False)
    assert (await accept(stores, "hello world", "a", task="other")).is_new
    await learn(stores, first)
    assert await accept(stores, "HELLO WORLD", "a") == Receipt(first.id, SampleState.LEARNED, is_new=False)


@pytest.mark.parametrize("state", [SampleState.REJECTED, SampleState.DEAD, SampleState.RETRACTED])
async def test_a_sample_that_is_gone_does_not_stand_in_the_way(stores: Stores, state: SampleState) -> None:
    first = await accept(stores, "text", "a")
    await stores.samples.settle(state, {first.id: "why"})
    second = await accept(stores, "text", "a")
    assert second.is_new
    assert second.id != first.id


async def test_a_label_that_was_changed_and_changed_back_is_a_new_sample(stores: Stores) -> None:
    first, other, back = [await accept(stores, "text", label) for label in ("a", "b", "a")]
    assert other.is_new
    assert back.is_new
    assert len({first.id, other.id, back.id}) == 3
    assert await accept(stores, "text", "a") == Receipt(back.id, SampleState.QUEUED, is_new=False)
    again = [await accept(stores, "text", label) for label in ("b", "a", "b")]
    assert all(receipt.is_new for receipt in again)
    assert len(await stores.samples.queued(10)) == 6


async def test_changes_of_mind_within_one_call_count_one_by_one(stores: Stores) -> None:
    receipts = await stores.samples.accept([NewSample("text", label) for label in "abaab"])
    assert [receipt.is_new for receipt in receipts] == [True, True, True, False, True]
    assert receipts[3].id == receipts[2].id


async def test_a_sample_about_to_be_retracted_does_not_take_a_new_one_with_it(stores: Stores) -> None:
    first = await accept(stores, "text", "a")
    await learn(stores, first)
    await stores.samples.request_retraction(first.id)
    second = await accept(stores, "text", "a")
    assert second.is_new
    assert await accept(stores, "text", "a") == replace(second, is_new=False)


async def test_golden_samples_judge_and_are_never_queued(stores: Stores) -> None:
    gold = await accept(stores, "text", "a", golden=True, pinned=True)
    assert gold.state is SampleState.GOLDEN
    sample = await stores.samples.get(gold.id)
    assert (sample.split, sample.pinned) == (Split.GOLDEN, True)
    assert await stores.samples.queued(10) == []
    assert await stores.samples.golden("default", 10) == [sample]
    assert await accept(stores, "text", "a") == Receipt(gold.id, SampleState.GOLDEN, is_new=False)


async def test_the_split_is_that_of_the_normalised_text(stores: Stores) -> None:
    receipts = await stores.samples.accept([NewSample(f"Text  {n}", "a") for n in range(200)])
    samples = await stores.samples.get_many([receipt.id for receipt in receipts])
    assert all(sample.split is split_of(digest_text(f"text {n}"), 0.1) for n, sample in enumerate(samples))
    assert {sample.split for sample in samples} == {Split.TRAIN, Split.HELDOUT}


async def test_a_key_seen_before_gives_the_first_receipts_whatever_happened_since(stores: Stores) -> None:
    key = IdempotencyKey("key", "body")
    items = [NewSample("one", "a"), NewSample("one", "a")]
    first = await stores.samples.accept(items, key)
    await learn(stores, first[0])
    stores.clock.advance(hours=23.9)
    assert await stores.samples.accept(items, key) == first
    assert [receipt.state for receipt in first] == [SampleState.QUEUED] * 2


async def test_a_key_with_another_body_is_refused_and_stores_nothing(stores: Stores) -> None:
    await stores.samples.accept([NewSample("one", "a")], IdempotencyKey("key", "body"))
    with pytest.raises(IdempotencyConflict, match="'key'"):
        await stores.samples.accept([NewSample("two", "a")], IdempotencyKey("key", "other"))
    assert (await stores.samples.backlog()).length == 1


async def test_a_key_is_forgotten_after_its_time(stores: Stores) -> None:
    await stores.samples.accept([NewSample("one", "a")], IdempotencyKey("key", "body"))
    stores.clock.advance(hours=24)
    [receipt] = await stores.samples.accept([NewSample("two", "a")], IdempotencyKey("key", "other"))
    assert receipt.is_new


async def test_twenty_identical_submissions_at_once_make_one_sample(stores: Stores) -> None:
    answers = await asyncio.gather(*(stores.samples.accept([NewSample("same", "a")]) for _ in range(20)))
    assert len({receipts[0].id for receipts in answers}) == 1
    assert sum(receipts[0].is_new for receipts in answers) == 1
    assert (await stores.samples.backlog()).length == 1


async def test_twenty_identical_requests_with_one_key_get_one_answer(stores: Stores) -> None:
    key = IdempotencyKey("key", "body")
    items = [NewSample("one", "a"), NewSample("two", "b")]
    answers = await asyncio.gather(*(stores.samples.accept(items, key) for _ in range(20)))
    assert all(receipts == answers[0] for receipts in answers)
    assert (await stores.samples.backlog()).length == 2


async def test_overlapping_batches_in_opposite_orders_neither_deadlock_nor_double(stores: Stores) -> None:
    items = [NewSample(f"text {n}", "ab"[n % 2]) for n in range(40)]
    await asyncio.gather(*(stores.samples.accept(items[:: 1 if n % 2 else -1]) for n in range(8)))
    assert (await stores.samples.backlog()).length == 40


async def test_labels_that_change_back_and_forth_at_once_leave_one_in_force_each(stores: Stores) -> None:
    answers = await asyncio.gather(*(accept(stores, "text", "ab"[n % 2]) for n in range(20)))
    stored = {sample.id: sample for sample in await stores.samples.queued(100)}
    assert {receipt.id for receipt in answers} == set(stored)
    labels = [sample.label for sample in stored.values()]
    assert all(one != next_ for one, next_ in pairwise(labels))


async def test_ten_thousand_items_in_one_call(stores: Stores) -> None:
    items = [NewSample(f"text {n}", f"label {n % 77}", origin=Origin.IMPORT) for n in range(10_000)]
    receipts = await stores.samples.accept(items)
    ids = [receipt.id for receipt in receipts]
    assert len(set(ids)) == 10_000
    assert [sample.text for sample in await stores.samples.get_many(ids)] == [item.text for item in items]
    await stores.samples.put_embeddings("e", {id: np.ones(4, np.float32) for id in ids[:2000]})
    assert len(await stores.samples.get_embeddings("e", ids)) == 2000
    await learn(stores, *receipts)
    assert len(await stores.samples.learned("default")) == 10_000
    assert len(await stores.ledger.ledger(0)) == 10_000
    repeated = await stores.samples.accept(items)
    assert repeated == [Receipt(id, SampleState.LEARNED, is_new=False) for id in ids]


@on_databases
async def test_a_call_that_fails_stores_nothing(stores: Stores) -> None:
    with pytest.raises(IntegrityError):
        await stores.samples.accept(
            [NewSample("one", "a"), NewSample("two", None)],  # type: ignore[arg-type]  # the point
            IdempotencyKey("key", "body"),
        )
    assert (await stores.count("samples"), await stores.count("idempotency_keys")) == (0, 0)


async def test_unknown_ids(stores: Stores) -> None:
    for call in (stores.samples.get, stores.samples.request_retraction):
        with pytest.raises(SampleNotFound, match="fb_no"):
            await call("fb_no")
    assert await stores.samples.get_many(["fb_no"]) == []
    assert await stores.samples.get_embeddings("e", ["fb_no"]) == {}
    assert await stores.samples.settle(SampleState.DEAD, {"fb_no": "x"}) == 0
    assert await stores.samples.versions_trained_on("fb_no") == []


async def test_queued_is_oldest_first_and_knows_pending_retractions(stores: Stores) -> None:
    receipts = await stores.samples.accept([NewSample(f"text {n}", "a") for n in range(4)])
    await learn(stores, *receipts[:2])
    stores.clock.advance(seconds=10)
    new = await accept(stores, "new", "a")
    retracting = await stores.samples.request_retraction(receipts[0].id)
    assert retracting.retract_requested
    ids = [receipts[0].id, receipts[2].id, receipts[3].id, new.id]
    assert [sample.id for sample in await stores.samples.queued(10)] == ids
    assert [sample.id for sample in await stores.samples.queued(2)] == ids[:2]
    old = await stores.samples.queued(10, older_than=stores.clock.now())
    assert [sample.id for sample in old] == ids[1:3]


async def test_the_backlog_counts_what_waits(stores: Stores) -> None:
    assert await stores.samples.backlog() == Backlog(0, None)
    first = await accept(stores, "one", "a")
    since = stores.clock.now()
    stores.clock.advance(seconds=5)
    second = await accept(stores, "two", "a")
    assert await stores.samples.backlog() == Backlog(2, since)
    await learn(stores, first)
    assert await stores.samples.backlog() == Backlog(1, stores.clock.now())
    await learn(stores, second)
    assert await stores.samples.backlog() == Backlog(0, None)


async def test_rivals_are_the_other_samples_of_the_same_text_and_task(stores: Stores) -> None:
    learned = await accept(stores, "text", "a")
    await learn(stores, learned)
    queued = await accept(stores, "TEXT", "b")
    gone = await accept(stores, "text", "c")
    await stores.samples.settle(SampleState.DEAD, {gone.id: "x"})
    await accept(stores, "text", "a", task="other")
    await accept(stores, "another text", "a")
    newest = await stores.samples.get((await accept(stores, "text", "d")).id)
    assert [sample.id for sample in await stores.samples.rivals([newest])] == [learned.id, queued.id]
    assert await stores.samples.rivals([]) == []


async def test_settling_moves_queued_samples_only(stores: Stores) -> None:
    receipts = await stores.samples.accept([NewSample(f"text {n}", "a") for n in range(3)])
    await learn(stores, receipts[0])
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
        (SampleState.DEAD, SampleState.DEAD),
        (SampleState.REJECTED, SampleState.REJECTED),
    ],
)
async def test_a_retraction_takes_effect_at_once_unless_the_head_holds_it(
    stores: Stores, state: SampleState, after: SampleState
) -> None:
    receipt = await accept(stores, "text", "a", golden=state is SampleState.GOLDEN)
    if state is SampleState.LEARNED:
        await learn(stores, receipt)
    elif receipt.state is not state:
        await stores.samples.settle(state, {receipt.id: "settled"})
    stores.clock.advance(seconds=1)
    sample = await stores.samples.request_retraction(receipt.id)
    assert sample.state is after
    assert sample.retract_requested is (state is SampleState.LEARNED)
    assert (sample.reason == "retracted by the client") is (after is SampleState.RETRACTED)
    stores.clock.advance(seconds=1)
    assert await stores.samples.request_retraction(receipt.id) == sample == await stores.samples.get(receipt.id)


async def test_what_was_learned_can_be_paged_and_counted(stores: Stores) -> None:
    receipts = await stores.samples.accept([NewSample(f"text {n}", "aab"[n % 3]) for n in range(9)])
    other = await accept(stores, "text", "z", task="mood")
    third = await accept(stores, "text", "z", task="a-third")
    await stores.samples.settle(SampleState.DEAD, {third.id: "x"})
    await accept(stores, "waiting", "c")
    await learn(stores, *receipts, other)
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


async def test_embeddings_are_kept_for_each_encoder(stores: Stores) -> None:
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


async def test_the_versions_whose_encoder_saw_a_sample_are_known(stores: Stores) -> None:
    one, two = [await accept(stores, text, "a") for text in ("one", "two")]
    await learn(stores, one, two)
    number = await stores.ledger.next_number()
    trained = candidate(number, number - 1, VersionKind.CONSOLIDATION)
    await stores.ledger.promote(trained, LedgerChange(trained=(one.id,)))
    assert await stores.samples.versions_trained_on(one.id) == [number]
    assert await stores.samples.versions_trained_on(two.id) == []
