"""The contract of dead letters, on every backend."""

from __future__ import annotations

import pytest

from pawl.domain.dead_letters import DeadLetterAction, DeadLetterDecision, DeadLetterFilter
from pawl.domain.errors import ItemsRefused, NotDead, SampleNotFound, SentAgain
from pawl.domain.labels import LabelChangeKind, LabelRequest
from pawl.domain.samples import SampleState
from tests.pawl.contract.backends import OpenStores

REDRIVE = DeadLetterDecision(DeadLetterAction.REDRIVE, "the fault is mended", "ann")
DISCARD = DeadLetterDecision(DeadLetterAction.DISCARD, "not worth it", "bob")
ANY = DeadLetterFilter()


async def dead(stores: OpenStores, *texts: str, label: str = "b", **fields: object) -> list[str]:
    ids = [(await stores.accept(text, label, **fields)).id for text in texts]
    await stores.samples.settle(SampleState.DEAD, dict.fromkeys(ids, "could not be learned: ValueError()"))
    return ids


async def decisions(stores: OpenStores) -> list[dict[str, object]]:
    return [one.payload for one in await stores.ledger.events(0, 1000) if one.type == "dead_letter_decided"]


async def test_dead_letters_are_paged_newest_first_counted_and_filtered(stores: OpenStores) -> None:
    plain = await dead(stores, "one", "two", "three")
    sourced = await dead(stores, "four", source="ann")
    await stores.accept("queued", "b")
    everything = [*plain, *sourced][::-1]
    first = await stores.samples.dead_letters(ANY, None, 3)
    rest = await stores.samples.dead_letters(ANY, first[-1].seq, 3)
    assert [one.id for one in (*first, *rest)] == everything
    assert await stores.samples.dead_count() == 4
    assert [one.id for one in await stores.samples.dead_letters(DeadLetterFilter(source="ann"), None, 9)] == sourced
    assert await stores.samples.dead_letters(DeadLetterFilter(label="c"), None, 9) == []
    assert await stores.samples.dead_letters(DeadLetterFilter(task="mood"), None, 9) == []


async def test_one_that_is_redriven_is_queued_again_and_audited_once(stores: OpenStores) -> None:
    [id] = await dead(stores, "one")
    sample = await stores.samples.decide_dead(id, REDRIVE)
    assert (sample.state, sample.reason) == (SampleState.QUEUED, "redriven by ann: the fault is mended")
    assert (await stores.samples.decide_dead(id, REDRIVE)).state is SampleState.QUEUED
    [event] = await decisions(stores)
    assert (event["id"], event["action"], event["by"], event["reason"]) == (id, "redrive", "ann", REDRIVE.reason)
    assert event["was"] == "could not be learned: ValueError()"
    with pytest.raises(NotDead):
        await stores.samples.decide_dead(id, DISCARD)
    assert [one.id for one in await stores.samples.queued(9)] == [id]


async def test_one_that_is_discarded_is_rejected_for_good(stores: OpenStores) -> None:
    [id] = await dead(stores, "one")
    assert (await stores.samples.decide_dead(id, DISCARD)).state is SampleState.REJECTED
    assert (await stores.samples.decide_dead(id, DISCARD)).state is SampleState.REJECTED
    with pytest.raises(NotDead):
        await stores.samples.decide_dead(id, REDRIVE)
    assert len(await decisions(stores)) == 1
    assert await stores.samples.dead_count() == 0
    with pytest.raises(SampleNotFound):
        await stores.samples.decide_dead("fb_unknown", REDRIVE)


async def test_one_that_was_sent_again_meanwhile_cannot_be_redriven(stores: OpenStores) -> None:
    [id] = await dead(stores, "one")
    again = await stores.accept("one", "b")
    assert again.is_new
    with pytest.raises(SentAgain, match=again.id):
        await stores.samples.decide_dead(id, REDRIVE)
    assert (await stores.samples.get(id)).state is SampleState.DEAD
    assert await decisions(stores) == []
    assert (await stores.samples.decide_dead(id, DISCARD)).state is SampleState.REJECTED


async def test_one_with_a_newer_label_for_its_text_is_redriven_and_the_newer_stays_right(stores: OpenStores) -> None:
    [id] = await dead(stores, "one")
    newer = await stores.accept("one", "c")
    assert (await stores.samples.decide_dead(id, REDRIVE)).state is SampleState.QUEUED
    assert [one.id for one in await stores.samples.rivals([await stores.samples.get(id)])] == [newer.id]


async def test_it_comes_back_under_the_name_its_label_has_now(stores: OpenStores) -> None:
    [id] = await dead(stores, "one")
    await stores.accept("other", "b")
    change = await stores.labels.request(LabelRequest(LabelChangeKind.RENAME, "default", "b", "new"))
    await stores.labels.apply(change.id)
    sample = await stores.samples.decide_dead(id, REDRIVE)
    assert (sample.state, sample.label) == (SampleState.QUEUED, "new")


async def test_a_retired_label_does_not_come_back_with_a_dead_letter(stores: OpenStores) -> None:
    [id] = await dead(stores, "one", label="gone")
    for label in ("gone", "b", "c"):
        await stores.accept(f"text of {label}", label)
    change = await stores.labels.request(LabelRequest(LabelChangeKind.RETIRE, "default", "gone"))
    await stores.labels.apply(change.id)
    with pytest.raises(ItemsRefused, match="retired"):
        await stores.samples.decide_dead(id, REDRIVE)
    assert (await stores.samples.get(id)).state is SampleState.DEAD


async def test_its_client_can_take_it_back_so_that_nobody_redrives_it(stores: OpenStores) -> None:
    [id] = await dead(stores, "one")
    assert (await stores.samples.request_retraction(id)).state is SampleState.RETRACTED
    with pytest.raises(NotDead):
        await stores.samples.decide_dead(id, REDRIVE)
