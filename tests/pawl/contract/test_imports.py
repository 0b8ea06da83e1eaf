"""The contract of imports, on every backend."""

from __future__ import annotations

from dataclasses import replace

from pawl.domain.identifiers import IMPORT_PREFIX, new_identifier
from pawl.domain.imports import Import, ImportOutcome, NewImport
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import NewSample, SampleFilter, SampleState
from tests.pawl.contract.backends import OpenStores


async def test_an_import_is_stored_with_its_samples(stores: OpenStores) -> None:
    one = NewImport(new_identifier(IMPORT_PREFIX), "default", "labels.csv", 2, "I know them")
    assert one.id.startswith("im_")
    items = [NewSample("one", "a", import_id=one.id), NewSample("two", "b", import_id=one.id)]
    receipts = await stores.samples.accept(items, imports=[one])
    found = await stores.samples.imports([one.id, "im_no"])
    assert found == {one.id: Import(one.id, "default", "labels.csv", 2, "I know them", stores.clock.now())}
    assert {s.import_id for s in await stores.samples.get_many([r.id for r in receipts])} == {one.id}
    assert await stores.samples.imports([]) == {}


async def test_a_sample_of_feedback_belongs_to_no_import_and_a_repeat_keeps_its_own(stores: OpenStores) -> None:
    sent = await stores.accept("one", "a")
    second = NewImport(new_identifier(IMPORT_PREFIX), "default", "second.csv", 1)
    [again] = await stores.samples.accept([NewSample("one", "a", import_id=second.id)], imports=[second])
    assert (again.id, again.is_new) == (sent.id, False)
    assert (await stores.samples.get(sent.id)).import_id is None
    assert (await stores.samples.imports([second.id]))[second.id].accept_reason is None


def imported(name: str = "labels.csv", reason: str | None = None) -> NewImport:
    return NewImport(new_identifier(IMPORT_PREFIX), "default", name, 2, reason)


async def test_what_became_of_an_import(stores: OpenStores) -> None:
    one, other = imported(), imported()
    items = [NewSample(f"text {n}", "a" if n < 3 else "b", import_id=one.id) for n in range(5)]
    receipts = await stores.samples.accept(items, imports=[one])
    sent = await stores.accept("by feedback", "b")
    await stores.samples.accept([NewSample("another", "a", import_id=other.id)], imports=[other])
    assert await stores.samples.waiting([one.id], [sent.id]) == 6
    await stores.learn(*receipts[:2])
    await stores.samples.settle(SampleState.QUARANTINED, {receipt.id: "harms" for receipt in receipts[2:]})
    assert await stores.samples.waiting([one.id], [sent.id]) == 1
    assert await stores.samples.waiting([], []) == 0
    assert await stores.samples.outcomes([one.id]) == [
        ImportOutcome("default", "a", SampleState.LEARNED, None, False, 2),
        ImportOutcome("default", "a", SampleState.QUARANTINED, "harms", False, 1),
        ImportOutcome("default", "b", SampleState.QUARANTINED, "harms", False, 2),
    ]


async def test_an_owner_who_insists_takes_what_is_repeated_out_of_quarantine(stores: OpenStores) -> None:
    first = imported()
    items = [NewSample("one", "a", import_id=first.id), NewSample("two", "b", import_id=first.id)]
    receipts = await stores.samples.accept(items, imports=[first])
    await stores.samples.settle(SampleState.QUARANTINED, {receipt.id: "harms" for receipt in receipts})
    again = imported()
    repeated = await stores.samples.accept([replace(item, import_id=again.id) for item in items], imports=[again])
    assert [(one.id, one.state) for one in repeated] == [(one.id, SampleState.QUARANTINED) for one in receipts]
    meant = imported(reason="they are right")
    taken = await stores.samples.accept([replace(items[0], import_id=meant.id)], imports=[meant])
    assert [(one.id, one.state, one.is_new) for one in taken] == [(receipts[0].id, SampleState.QUEUED, False)]
    released, held = await stores.samples.get_many([one.id for one in receipts])
    assert (released.state, released.import_id, released.reviewed_at) == (
        SampleState.QUEUED,
        meant.id,
        stores.clock.now(),
    )
    assert released.reason == f"accepted with {meant.id}: they are right"
    assert (held.state, held.import_id) == (SampleState.QUARANTINED, first.id)
    [event] = [one for one in await stores.ledger.events(0, 100) if one.type == "import_accepted"]
    assert (event.payload["id"], event.payload["released"]) == (meant.id, 1)


async def test_a_held_sample_stays_in_quarantine_and_an_emphasis_is_kept(stores: OpenStores) -> None:
    hold = Hold(QuarantineKind.FLOW, "a flow")
    receipts = await stores.samples.accept([NewSample("one", "a", hold=hold), NewSample("two", "b", emphasis=2.5)])
    assert [one.state for one in receipts] == [SampleState.QUARANTINED, SampleState.QUEUED]
    await stores.learn(receipts[1])
    held, learned = await stores.samples.get_many([one.id for one in receipts])
    assert (held.reason, held.quarantined_by) == ("a flow", QuarantineKind.FLOW)
    assert (learned.state, learned.emphasis) == (SampleState.LEARNED, 2.5)


async def test_a_receipt_says_which_label_it_replaces(stores: OpenStores) -> None:
    first, second = await stores.samples.accept([NewSample("one", "a"), NewSample("One", "b")])
    assert (first.replaces, second.replaces) == (None, "a")


async def test_an_export_reads_what_fits_and_not_what_is_leaving(stores: OpenStores) -> None:
    receipts = await stores.samples.accept([NewSample(f"text {n}", "a") for n in range(4)])
    mood = await stores.accept("text", "good", task="mood", create_task=True)
    await stores.learn(*receipts[:3])
    await stores.samples.request_retraction(receipts[0].id)
    await stores.samples.settle(SampleState.DEAD, {receipts[3].id: "x"})
    stores.clock.advance(seconds=5)
    late = await stores.accept("late", "a")

    async def ids(where: SampleFilter) -> list[str]:
        found = [sample.id async for page in stores.samples.stream(where) for sample in page]
        assert await stores.samples.count(where) == len(found)
        return found

    assert await ids(SampleFilter()) == [receipts[1].id, receipts[2].id, mood.id, late.id]
    assert await ids(SampleFilter(tasks=["mood"])) == [mood.id]
    assert await ids(SampleFilter(states=[SampleState.DEAD])) == [receipts[3].id]
    assert await ids(SampleFilter(since=stores.clock.now())) == [late.id]
