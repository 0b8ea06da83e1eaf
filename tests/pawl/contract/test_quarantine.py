"""The contract of the quarantine, on every backend."""

from __future__ import annotations

from typing import Any

import pytest

from pawl.domain.errors import NotQuarantined, SampleNotFound
from pawl.domain.quarantine import Doubt, Hold, QuarantineFilter, QuarantineKind, Review, ReviewAction
from pawl.domain.samples import NewSample, Origin, SampleState
from pawl.domain.versions import LedgerChange, VersionKind
from tests.pawl.contract.backends import OpenStores, candidate

RELEASE = Review(ReviewAction.RELEASE, "it is right", "ann")
DISCARD = Review(ReviewAction.DISCARD, "it is wrong", "bob")
FLOW = Hold(QuarantineKind.FLOW, "12 of 40 turn a into b")
ANY = QuarantineFilter()


async def held(stores: OpenStores, count: int = 1, hold: Hold = FLOW, **fields: Any) -> list[str]:
    items = [NewSample(f"{fields} text {n}", "b", create_task=True, **fields) for n in range(count)]
    receipts = await stores.samples.accept(items)
    assert await stores.samples.hold({one.id: hold for one in receipts}, {}) == count
    return [one.id for one in receipts]


async def events(stores: OpenStores, type: str) -> list[dict[str, object]]:
    return [one.payload for one in await stores.ledger.events(0, 1000) if one.type == type]


async def test_held_samples_are_quarantined_with_kind_reason_doubt_and_one_event(stores: OpenStores) -> None:
    first, second, third = [(await stores.accept(text, "b")).id for text in ("one", "two", "three")]
    await stores.samples.settle(SampleState.DEAD, {third: "x"})
    doubt = Doubt("a", opposed=True, plausible=False)
    stores.clock.advance(seconds=5)
    other = Hold(QuarantineKind.SOURCE, "not trusted")
    assert await stores.samples.hold({first: FLOW, second: other, third: FLOW, "fb_no": FLOW}, {first: doubt}) == 2
    one, two, dead = await stores.samples.get_many([first, second, third])
    assert (one.state, one.quarantined_by, one.reason, one.doubt) == (
        SampleState.QUARANTINED,
        QuarantineKind.FLOW,
        FLOW.reason,
        doubt,
    )
    assert (two.quarantined_by, two.doubt, two.updated_at) == (QuarantineKind.SOURCE, None, stores.clock.now())
    assert (dead.state, dead.quarantined_by) == (SampleState.DEAD, None)
    [event] = await events(stores, "feedback_quarantined")
    assert (event["count"], event["kinds"]) == (2, {"flow": 1, "source": 1})
    assert await stores.samples.quarantine_counts() == {QuarantineKind.FLOW: 1, QuarantineKind.SOURCE: 1}
    assert await stores.samples.hold({first: FLOW}, {}) == 0
    assert len(await events(stores, "feedback_quarantined")) == 1


async def test_quarantined_samples_are_paged_newest_first_and_filtered(stores: OpenStores) -> None:
    plain = await held(stores, 3)
    sourced = await held(stores, 2, source="ann")
    mood = await held(stores, 1, Hold(QuarantineKind.SOURCE, "x"), task="mood")
    await stores.accept("queued", "b")
    everything = [*plain, *sourced, *mood][::-1]
    assert [one.id for one in await stores.samples.quarantined(ANY, None, 10)] == everything
    first = await stores.samples.quarantined(ANY, None, 2)
    rest = await stores.samples.quarantined(ANY, first[-1].seq, 10)
    assert [one.id for one in first + rest] == everything
    for where, ids in (
        (QuarantineFilter(source="ann"), sourced),
        (QuarantineFilter(task="mood"), mood),
        (QuarantineFilter(task="default", kind=QuarantineKind.SOURCE), []),
        (QuarantineFilter(label="b", kind=QuarantineKind.FLOW), plain + sourced),
        (QuarantineFilter(label="c"), []),
    ):
        assert [one.id for one in await stores.samples.quarantined(where, None, 10)] == ids[::-1]


async def test_a_released_sample_is_queued_again_and_knows_that_it_was_reviewed(stores: OpenStores) -> None:
    [sample_id] = await held(stores, source="eve")
    stores.clock.advance(seconds=5)
    sample = await stores.samples.review(sample_id, RELEASE)
    assert (sample.state, sample.reviewed_at, sample.updated_at) == (
        SampleState.QUEUED,
        stores.clock.now(),
        stores.clock.now(),
    )
    assert sample.reason == "released by ann: it is right"
    assert [one.id for one in await stores.samples.queued(10)] == [sample_id]
    assert await stores.samples.quarantine_counts() == {}
    [event] = await events(stores, "quarantine_reviewed")
    assert event == {
        "id": sample_id,
        "task": "default",
        "label": "b",
        "source": "eve",
        "action": "release",
        "by": "ann",
        "reason": "it is right",
        "quarantined_by": "flow",
        "was": FLOW.reason,
    }
    assert await stores.samples.review(sample_id, RELEASE) == sample
    await stores.learn(await stores.accept("other", "b"))
    number = await stores.ledger.next_number()
    await stores.ledger.promote(candidate(number, number - 1), LedgerChange(learned=(sample_id,)))
    assert (await stores.samples.review(sample_id, RELEASE)).state is SampleState.LEARNED
    assert len(await events(stores, "quarantine_reviewed")) == 1
    with pytest.raises(NotQuarantined, match=r"not in quarantine \(it is learned\)"):
        await stores.samples.review(sample_id, DISCARD)


async def test_a_discarded_sample_is_rejected_and_may_be_sent_again(stores: OpenStores) -> None:
    [sample_id] = await held(stores)
    sample = await stores.samples.review(sample_id, DISCARD)
    assert (sample.state, sample.reason) == (SampleState.REJECTED, "discarded by bob: it is wrong")
    assert await stores.samples.review(sample_id, DISCARD) == sample
    with pytest.raises(NotQuarantined):
        await stores.samples.review(sample_id, RELEASE)
    again = await stores.samples.accept([NewSample(sample.text, sample.label)])
    assert again[0].is_new


async def test_only_what_is_in_quarantine_can_be_reviewed(stores: OpenStores) -> None:
    queued = await stores.accept("text", "a")
    rejected = await stores.accept("other", "a")
    await stores.samples.settle(SampleState.REJECTED, {rejected.id: "x"})
    for sample_id in (queued.id, rejected.id):
        for review in (RELEASE, DISCARD):
            with pytest.raises(NotQuarantined):
                await stores.samples.review(sample_id, review)
    with pytest.raises(SampleNotFound):
        await stores.samples.review("fb_no", RELEASE)
    assert await events(stores, "quarantine_reviewed") == []


async def test_a_version_says_what_put_its_samples_into_quarantine_and_keeps_doubts(stores: OpenStores) -> None:
    ids = [(await stores.accept(f"text {n}", "a")).id for n in range(5)]
    doubt = Doubt("b", opposed=False, plausible=True)
    first = await stores.ledger.next_number()
    change = LedgerChange(
        learned=tuple(ids[:3]),
        quarantined={ids[3]: "why"},
        kinds={ids[3]: QuarantineKind.DUPLICATES},
        doubts=dict.fromkeys([*ids[1:3], ids[4]], doubt),
    )
    await stores.ledger.promote(candidate(first, None), change)
    refused = LedgerChange(learned=(ids[4],), doubts={ids[4]: doubt})
    await stores.ledger.refuse(candidate(first + 1, first), refused, {ids[4]: "bad"})
    back = candidate(first + 2, first, VersionKind.ROLLBACK)
    await stores.ledger.promote(back, LedgerChange(quarantined={ids[0]: "back"}))
    found = await stores.samples.get_many(ids)
    assert [(one.quarantined_by, one.doubt) for one in found] == [
        (QuarantineKind.ROLLBACK, None),
        (None, doubt),
        (None, doubt),
        (QuarantineKind.DUPLICATES, None),
        (QuarantineKind.GATE, doubt),
    ]


async def test_what_was_screened_is_remembered_oldest_first(stores: OpenStores) -> None:
    learned = [(await stores.accept(f"text {n}", "a")) for n in range(3)]
    imported = await stores.accept("imported", "a", origin=Origin.IMPORT)
    other = await stores.accept("mood", "a", task="mood")
    await stores.learn(*learned, imported, other)
    quarantined = await held(stores, 2)
    await stores.samples.review(quarantined[0], DISCARD)
    await stores.accept("queued", "a")
    ids = [*(one.id for one in learned), *quarantined]
    assert [one.id for one in await stores.samples.screened("default", 10)] == ids
    assert [one.id for one in await stores.samples.screened("default", 2)] == ids[-2:]
    assert [one.id for one in await stores.samples.screened("mood", 5)] == [other.id]
