"""What a change of a label does to samples, and to feedback after it, on every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pawl.domain.errors import (
    CandidateStale,
    Conflict,
    ItemsRefused,
    LabelChangePending,
)
from pawl.domain.labels import LabelChange, LabelChangeState
from pawl.domain.samples import IdempotencyKey, NewSample, SampleState
from pawl.domain.versions import LedgerAction, LedgerChange
from tests.pawl.contract.backends import OpenStores, candidate
from tests.pawl.contract.label_changes import ask, carry_out, labels_of, three_labels


async def test_a_rename_moves_every_active_sample(stores: OpenStores) -> None:
    await three_labels(stores)
    queued, quarantined, gone = [await stores.accept(text, "a") for text in ("q", "k", "gone")]
    golden = await stores.accept("g", "a", golden=True)
    elsewhere = await stores.accept("m", "a", task="mood")
    await stores.samples.settle(SampleState.QUARANTINED, {quarantined.id: "x"})
    await stores.samples.request_retraction(gone.id)
    change = await ask(stores, "rename", "a", "A", reason="spelling")
    stores.clock.advance(seconds=1)
    number = await carry_out(stores, change)
    label = {one.id: one.label for one in await stores.samples.get_many([queued.id, quarantined.id, golden.id])}
    assert set(label.values()) == {"A"}
    assert (await stores.samples.get(gone.id)).label == "a"
    assert (await stores.samples.get(elsewhere.id)).label == "a"
    assert await stores.samples.label_counts("default") == {"A": 2, "b": 2, "c": 2}
    assert await labels_of(stores) == {
        "A": ("active", None),
        "a": ("renamed", "A"),
        "b": ("active", None),
        "c": ("active", None),
    }
    settled = await stores.labels.get(change.id)
    assert settled == replace(change, state=LabelChangeState.APPLIED, version=number, settled_at=stores.clock.now())
    assert await stores.labels.applied(number - 1) == await stores.labels.applied(0, number) == [settled]
    assert await stores.labels.applied(number) == await stores.labels.applied(0, number - 1) == []
    since = {one.name: one.since_version for one in await stores.labels.summaries("default")}
    assert since == {"A": number, "a": number, "b": 1, "c": 1}
    assert await stores.ledger.ledger(1) == []
    event = (await stores.ledger.events(0, 100))[-1]
    assert (event.type, event.payload["version"], event.payload["target"]) == ("label_changed", number, "A")


async def test_feedback_that_names_yesterdays_label_gets_todays(stores: OpenStores) -> None:
    await three_labels(stores)
    await carry_out(stores, await ask(stores, "rename", "a", "A"))
    key = IdempotencyKey("k", "body")
    [receipt] = await stores.samples.accept([NewSample("new", "a")], key)
    assert receipt.label == "A"
    assert await stores.samples.accept([NewSample("new", "a")], key) == [receipt]
    assert (await stores.samples.get(receipt.id)).label == "A"
    repeated = await stores.accept("new", "a")
    assert (repeated.id, repeated.is_new, repeated.label) == (receipt.id, False, "A")
    assert (await stores.accept("new", "A")).label is None
    assert (await stores.samples.get((await stores.accept("x", "a", task="mood")).id)).label == "a"
    await carry_out(stores, await ask(stores, "merge", "A", "b"))
    assert (await stores.accept("newer", "a")).label == "b"
    await carry_out(stores, await ask(stores, "rename", "b", "a"))
    assert (await stores.accept("newest", "b")).label == "a"
    assert (await stores.accept("newest", "A")).label == "a"
    assert await labels_of(stores) == {
        "A": ("merged", "a"),
        "a": ("active", None),
        "b": ("renamed", "a"),
        "c": ("active", None),
    }


async def test_after_a_merge_the_older_sample_of_a_text_leaves_the_identity_to_the_newer(stores: OpenStores) -> None:
    await three_labels(stores)
    older = await stores.accept("text", "a")
    await stores.learn(older)
    newer = await stores.accept("text", "b")
    await carry_out(stores, await ask(stores, "merge", "a", "b"))
    rows = await stores.samples.get_many([older.id, newer.id])
    assert [(row.label, row.state) for row in rows] == [("b", SampleState.LEARNED), ("b", SampleState.QUEUED)]
    again = await stores.accept("text", "b")
    assert (again.id, again.is_new) == (newer.id, False)
    # The learner takes the older out when it learns the newer, as with any correction.
    assert [one.id for one in await stores.samples.rivals([await stores.samples.get(newer.id)])] == [older.id]
    assert await stores.samples.label_counts("default") == {"b": 5, "c": 2}


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_golden_samples_merge_too(stores: OpenStores, order: str) -> None:
    await three_labels(stores)
    for label in order:
        await stores.accept("text", label, golden=True)
    await carry_out(stores, await ask(stores, "merge", "a", "b"))
    assert [one.label for one in await stores.samples.golden("default", 10)] == ["b"]  # the later one counts
    assert not (await stores.accept("text", "b")).is_new


async def test_a_retired_label_leaves_with_all_its_samples(stores: OpenStores) -> None:
    await three_labels(stores)
    queued, quarantined = await stores.accept("q", "a"), await stores.accept("k", "a")
    golden = await stores.accept("g", "a", golden=True)
    await stores.samples.settle(SampleState.QUARANTINED, {quarantined.id: "x"})
    learned = [one.id for one in await stores.samples.learned_with_label("default", "a", 10)]
    change = await ask(stores, "retire", "a")
    number = await carry_out(stores, change)
    states = {one.id: (one.state.value, one.reason) for one in await stores.samples.get_many(
        [queued.id, quarantined.id, golden.id, *learned]
    )}  # fmt: skip
    why = f"the label 'a' was retired ({change.id})"
    assert states[queued.id] == states[quarantined.id] == ("rejected", why)
    assert states[golden.id] == ("retracted", why)
    assert {states[one] for one in learned} == {("retracted", "retired")}
    rows = await stores.ledger.ledger(number - 1)
    assert [(row.sample_id, row.action) for row in rows] == [(one, LedgerAction.UNLEARN) for one in learned]
    assert (await labels_of(stores))["a"] == ("retired", None)
    items = [NewSample("x", "b"), NewSample("y", "a"), NewSample("z", "a")]
    with pytest.raises(ItemsRefused, match="'a' of task 'default' was retired") as caught:
        await stores.samples.accept(items)
    faults: Any = caught.value.details["faults"]
    assert [(fault.index, fault.field) for fault in faults] == [(1, "label"), (2, "label")]
    assert (await stores.samples.backlog()).length == 0
    with pytest.raises(Conflict, match="was retired"):
        await ask(stores, "rename", "b", "a")
    await ask(stores, "add", "a")
    assert (await stores.accept("y", "a")).is_new


async def test_a_name_that_stood_for_a_retired_label_is_retired_with_it(stores: OpenStores) -> None:
    await three_labels(stores)
    await carry_out(stores, await ask(stores, "rename", "a", "A"))
    await carry_out(stores, await ask(stores, "retire", "A"))
    with pytest.raises(ItemsRefused, match="'A'"):
        await stores.accept("text", "a")
    await ask(stores, "add", "a")
    assert (await stores.accept("text", "a")).label is None


async def test_a_promotion_that_does_not_know_all_learned_samples_of_a_retired_label(stores: OpenStores) -> None:
    number = await three_labels(stores)
    change = await ask(stores, "retire", "a")
    before = await stores.samples.label_counts("default"), await labels_of(stores)
    with pytest.raises(CandidateStale, match="'a'"):
        await stores.ledger.promote(candidate(number + 1, number), LedgerChange(label=change))
    live = await stores.ledger.live()
    assert live is not None
    assert live.number == number
    assert (await stores.samples.label_counts("default"), await labels_of(stores)) == before


async def test_a_change_is_carried_out_once(stores: OpenStores) -> None:
    await three_labels(stores)
    change = await ask(stores, "rename", "a", "A")
    number = await carry_out(stores, change)
    for call in (carry_out(stores, change), stores.labels.apply(change.id), stores.labels.fail(change.id, "no")):
        with pytest.raises(CandidateStale, match="applied already"):
            await call
    live = await stores.ledger.live()
    assert live is not None
    assert live.number == number


async def test_a_change_without_a_version(stores: OpenStores) -> None:
    queued = await stores.accept("text", "a")
    change = await ask(stores, "rename", "a", "b")
    settled = await stores.labels.apply(change.id)
    assert (settled.state, settled.version) == (LabelChangeState.APPLIED, None)
    assert (await stores.samples.get(queued.id)).label == "b"
    assert (await stores.ledger.events(0, 10))[-1].type == "label_changed"
    await stores.learn(queued)
    change = await ask(stores, "rename", "b", "c")
    with pytest.raises(CandidateStale, match="were learned"):
        await stores.labels.apply(change.id)


async def test_a_change_that_cannot_be_carried_out(stores: OpenStores) -> None:
    await three_labels(stores)
    change = await ask(stores, "retire", "a")
    failed = await stores.labels.fail(change.id, "the disk is full")
    assert (failed.state, failed.problem) == (LabelChangeState.FAILED, "the disk is full")
    assert await stores.labels.pending() == []
    assert (await labels_of(stores))["a"] == ("active", None)
    event = (await stores.ledger.events(0, 10))[-1]
    assert (event.type, event.payload["problem"]) == ("label_change_failed", "the disk is full")
    await ask(stores, "retire", "a")


async def test_nothing_slips_past_a_change_that_is_carried_out_meanwhile(stores: OpenStores) -> None:
    await three_labels(stores)
    change = await ask(stores, "rename", "a", "A")
    items = [[NewSample(f"text {n} {m}", "a") for m in range(3)] for n in range(20)]
    work = [stores.samples.accept(batch) for batch in items]
    await asyncio.gather(*work[:10], carry_out(stores, change), *work[10:])
    assert {one.label for one in await stores.samples.queued(100)} == {"A"}


async def test_of_two_requests_for_one_label_one_waits(stores: OpenStores) -> None:
    await three_labels(stores)
    outcomes = await asyncio.gather(*(ask(stores, "rename", "a", f"A{n}") for n in range(5)), return_exceptions=True)
    assert len([one for one in outcomes if isinstance(one, LabelChange)]) == 1
    assert len([one for one in outcomes if isinstance(one, LabelChangePending)]) == 4
