"""The same sample with another attribute (golden, pin, weight, source) is changed, or answered with what it stays."""

from __future__ import annotations

import asyncio

import pytest

from pawl.domain.samples import ACTIVE_STATES, SampleState, Split
from pawl.domain.versions import LedgerChange
from tests.pawl.contract.backends import OpenStores, candidate


@pytest.mark.parametrize("state", list(ACTIVE_STATES))
@pytest.mark.parametrize(
    ("attribute", "value"), [("golden", True), ("pinned", True), ("weight", 7.0), ("source", "another")]
)
async def test_the_same_sample_with_another_attribute_is_either_changed_or_answered_with_what_it_stays(
    stores: OpenStores, state: SampleState, attribute: str, value: object
) -> None:
    first = await stores.accept("text", "a", source="first", golden=state is SampleState.GOLDEN)
    if state is SampleState.LEARNED:
        await stores.learn(first)
    elif state is SampleState.QUARANTINED:
        await stores.samples.settle(state, {first.id: "x"})
    again = await stores.accept("text", "a", **{attribute: value})
    sample = await stores.samples.get(again.id)
    is_golden = sample.state is SampleState.GOLDEN
    changed = is_golden if attribute == "golden" else getattr(sample, attribute) == value
    assert changed or any("stays" in warning for warning in again.warnings)
    assert changed == (attribute != "source")


async def test_another_weight_of_a_learned_sample_takes_its_place(stores: OpenStores) -> None:
    first = await stores.accept("text", "a", weight=2.0, source="ann", pinned=True)
    await stores.learn(first)
    second = await stores.accept("TEXT", "a", weight=5.0)
    assert (second.is_new, second.state) == (True, SampleState.QUEUED)
    assert f"takes the place of {first.id}" in second.warnings[0]
    assert "weight 2 becomes 5" in second.warnings[0]
    sample = await stores.samples.get(second.id)
    assert (sample.weight, sample.source, sample.pinned) == (5.0, "ann", True)
    [old] = await stores.samples.rivals([sample])  # what the learner takes out when it learns this one
    assert old.id == first.id
    assert not (await stores.accept("text", "a", weight=5.0)).is_new


async def test_a_weight_that_is_not_said_stays(stores: OpenStores) -> None:
    first = await stores.accept("text", "a", weight=2.0)
    again = await stores.accept("text", "a")
    assert (again.id, again.is_new, again.warnings) == (first.id, False, ())
    assert (await stores.samples.get(first.id)).weight == 2.0


async def test_a_pin_comes_with_the_repeat(stores: OpenStores) -> None:
    first = await stores.accept("text", "a")
    await stores.learn(first)
    second = await stores.accept("text", "a", pinned=True)
    assert second.is_new
    assert "pinned" in second.warnings[0]
    assert (await stores.samples.get(second.id)).pinned
    assert not (await stores.accept("text", "a")).is_new  # a pin that is not said stays
    assert (await stores.samples.get(second.id)).pinned


async def test_a_source_stays_and_is_said(stores: OpenStores) -> None:
    first = await stores.accept("text", "a", source="ann")
    again = await stores.accept("text", "a", source="bob")
    assert again.id == first.id
    assert again.warnings == (f"the source of {first.id} stays 'ann'",)
    assert (await stores.samples.get(first.id)).source == "ann"
    assert (await stores.accept("text", "a", source="ann")).warnings == ()


async def test_what_is_in_quarantine_changes_in_place_and_stays_there(stores: OpenStores) -> None:
    first = await stores.accept("text", "a")
    await stores.samples.settle(SampleState.QUARANTINED, {first.id: "x"})
    again = await stores.accept("text", "a", weight=3.0, pinned=True)
    assert (again.id, again.state, again.is_new) == (first.id, SampleState.QUARANTINED, False)
    sample = await stores.samples.get(first.id)
    assert (sample.weight, sample.pinned, sample.state) == (3.0, True, SampleState.QUARANTINED)


async def test_a_learned_sample_that_turns_golden_leaves_the_head(stores: OpenStores) -> None:
    first = await stores.accept("text", "a", weight=2.0)
    await stores.learn(first)
    gold = await stores.accept("text", "a", golden=True)
    assert (gold.state, gold.is_new) == (SampleState.GOLDEN, True)
    assert f"{first.id} leaves the head" in gold.warnings[0]
    old = await stores.samples.get(first.id)
    assert (old.state, old.retract_requested) == (SampleState.LEARNED, True)
    assert [one.id for one in await stores.samples.queued(10)] == [first.id]
    assert [one.id for one in await stores.samples.golden("default", 10)] == [gold.id]
    again = await stores.accept("text", "a", golden=True)
    assert (again.id, again.is_new, again.warnings) == (gold.id, False, ())


async def test_a_queued_or_quarantined_sample_turns_golden_at_once(stores: OpenStores) -> None:
    queued, held = await stores.accept("one", "a"), await stores.accept("two", "a")
    await stores.samples.settle(SampleState.QUARANTINED, {held.id: "x"})
    for first, text in ((queued, "one"), (held, "two")):
        gold = await stores.accept(text, "a", golden=True)
        assert (gold.id, gold.state, gold.is_new) == (first.id, SampleState.GOLDEN, False)
        sample = await stores.samples.get(gold.id)
        assert (sample.split, sample.reason) == (Split.GOLDEN, None)
    assert (await stores.samples.backlog()).length == 0


async def test_a_golden_label_takes_every_other_label_of_its_text_out(stores: OpenStores) -> None:
    learned = await stores.accept("text", "a")
    await stores.learn(learned)
    waiting = await stores.accept("text", "b")
    gold = await stores.accept("text", "c", golden=True)
    assert (await stores.samples.get(learned.id)).retract_requested
    assert (await stores.samples.get(waiting.id)).state is SampleState.RETRACTED
    other = await stores.accept("text", "d", golden=True)
    assert (await stores.samples.get(gold.id)).state is SampleState.RETRACTED
    assert [one.id for one in await stores.samples.golden("default", 10)] == [other.id]


async def test_a_golden_sample_is_learned_only_after_it_was_retracted(stores: OpenStores) -> None:
    gold = await stores.accept("text", "a", golden=True)
    again = await stores.accept("text", "a")
    assert (again.id, again.state) == (gold.id, SampleState.GOLDEN)
    assert f"{gold.id} stays golden" in again.warnings[0]
    contrary = await stores.accept("text", "b")
    assert contrary.state is SampleState.QUEUED
    assert f"{gold.id}, golden, says 'a'" in contrary.warnings[0]
    await stores.samples.request_retraction(gold.id)
    fresh = await stores.accept("text", "a")
    assert (fresh.state, fresh.is_new, fresh.warnings) == (SampleState.QUEUED, True, ())


async def test_a_sample_that_turns_golden_while_it_is_promoted_is_one_or_the_other(stores: OpenStores) -> None:
    for n in range(8):
        first = await stores.accept(f"text {n}", "a")
        number, live = await stores.ledger.next_number(), await stores.ledger.live()
        version = candidate(number, live.number if live else None)
        promotion, gold = await asyncio.gather(
            stores.ledger.promote(version, LedgerChange(learned=(first.id,))),
            stores.accept(f"text {n}", "a", golden=True),
            return_exceptions=True,
        )
        assert not isinstance(gold, BaseException)
        old = await stores.samples.get(first.id)
        if isinstance(promotion, BaseException):
            assert (gold.id, old.state) == (first.id, SampleState.GOLDEN)
        else:
            assert (old.state, old.retract_requested) == (SampleState.LEARNED, True)
            assert gold.id != first.id
        [kept] = [one for one in await stores.samples.golden("default", 100) if one.text == f"text {n}"]
        assert kept.id == gold.id
