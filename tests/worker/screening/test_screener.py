"""The screen in the learner, on a real store: what it holds, pulls, keeps, and remembers after a restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.domain.quarantine import QuarantineFilter, QuarantineKind, Review, ReviewAction
from pawl.domain.samples import Sample, SampleState
from pawl.domain.versions import VersionState
from tests.direct_solve import direct_weights, relative_error
from tests.intents import labelled, texts
from tests.learners import Learner, new_learner, opened
from tests.processes import Installation, Installer

GATE_OFF = {"gate_max_drop": 1.0, "gate_max_class_drop": 1.0, "gate_max_ece_rise": 1.0}
RELEASE = Review(ReviewAction.RELEASE, "it is right", "ann")
CONFIRMED = 60


@dataclass(slots=True)
class Screened:
    """A trained learner whose screen has seen honest labels; the gate lets everything pass, so nothing else holds."""

    pawl: Installation
    engine: AsyncEngine
    learner: Learner

    async def learn(self, *pairs: tuple[str, str], **options: Any) -> list[Sample]:
        """Sends labels, learns what is queued, and says what became of them."""
        ids = await self.learner.accept(list(pairs), **options)
        await self.learner.learn_queued()
        return await self.learner.samples.get_many(ids)

    async def restart(self, **settings: Any) -> None:
        """As after a start of the process."""
        changed = self.pawl.settings.model_copy(update=settings)
        self.learner = new_learner(changed, self.engine)

    def wrong(self, count: int, seed: int = 9) -> list[tuple[str, str]]:
        return [(text, "profit") for text in islice(texts("card", seed=seed), count)]


@pytest.fixture
async def screened(install: Installer) -> AsyncIterator[Screened]:
    pawl = install.trained(**GATE_OFF)
    async with opened(pawl) as engine:
        screened = Screened(pawl, engine, new_learner(pawl.settings, engine))
        seen = await screened.learn(*labelled(CONFIRMED, seed=5))
        assert states(seen) == {SampleState.LEARNED: CONFIRMED}
        yield screened


def states(samples: list[Sample]) -> Counter[SampleState]:
    return Counter(sample.state for sample in samples)


def held(samples: list[Sample]) -> list[Sample]:
    return [one for one in samples if one.state is SampleState.QUARANTINED]


async def test_a_burst_is_held_and_the_honest_rest_of_its_batch_learned(screened: Screened) -> None:
    good = labelled(20, seed=8, labels=("flight", "password"))
    found = await screened.learn(*screened.wrong(60), *good)
    bad, rest = found[:60], found[60:]
    assert states(rest) == {SampleState.LEARNED: 20}
    assert len(held(bad)) > 40
    for one in held(bad):
        assert one.quarantined_by in (QuarantineKind.FLOW, QuarantineKind.DUPLICATES)
        assert one.doubt is not None
        assert one.doubt.answer == "card"
    flows = [one for one in bad if one.quarantined_by is QuarantineKind.FLOW]
    assert "labels from unnamed sources turn card into profit" in str(flows[0].reason)
    events = [
        one.payload for one in await screened.learner.ledger.events(0, 1000) if one.type == "feedback_quarantined"
    ]
    assert sum(one["count"] for one in events) == len(held(bad))
    counts = await screened.learner.samples.quarantine_counts()
    assert sum(counts.values()) == len(held(bad))


async def test_what_a_slow_burst_had_brought_in_leaves_exactly(screened: Screened) -> None:
    """Also across a restart in the middle of it: the window comes back from the store."""
    found: list[Sample] = []
    for start in range(0, 60, 2):
        if start == 4:
            await screened.restart()
        found += await screened.learn(*screened.wrong(60)[start : start + 2])
    samples = await screened.learner.samples.get_many([one.id for one in found])
    assert len(held(samples)) > 40
    assert all(one.doubt is None or not one.doubt.opposed for one in samples if one not in held(samples))
    pulled = [one for one in held(samples) if one.learned_in_version is not None]
    assert len(pulled) >= 4
    versions = await screened.learner.ledger.page(None, 1000)
    [pulling, *_] = [one for one in versions if one.trigger == "quarantine"][::-1]
    assert pulling.state is not VersionState.REFUSED
    live = versions[0]
    model = screened.pawl.offline(live.number)
    expected = direct_weights(
        model, await screened.learner.samples.learned("default"), live.metrics["regularisation"]["default"]["semantic"]
    )
    assert relative_error(model.heads["default"].semantic.weights, expected) < 1e-5


async def test_what_a_poisoned_head_agreed_with_is_judged_again_by_the_one_without_the_poison(
    screened: Screened,
) -> None:
    """The first part of a burst is learned, and the head then expects the second: conviction must not come too late."""
    await screened.restart(quarantine_flow_floor=1000, quarantine_duplicates=1000, quarantine_source_evidence=1000)
    pairs = screened.wrong(70)
    first = await screened.learn(*pairs[:40])
    assert states(first) == {SampleState.LEARNED: 40}
    await screened.restart()
    second = await screened.learn(*pairs[40:])
    first = await screened.learner.samples.get_many([one.id for one in first])
    assert len(held(first)) > 20
    opposed = [one for one in second if one.doubt is not None and one.doubt.opposed]
    assert len(opposed) > 15
    assert {one.state for one in opposed} == {SampleState.QUARANTINED}


async def test_a_restart_does_not_forget_what_was_seen(screened: Screened) -> None:
    settings = screened.pawl.settings
    pairs = screened.wrong(60)
    first = await screened.learn(*pairs[:5])
    assert not held(first)
    await screened.restart()
    second = await screened.learn(*pairs[5:20])
    assert len(held(second)) > 8
    first = await screened.learner.samples.get_many([one.id for one in first])
    assert {one.state for one in first if one.doubt is not None and one.doubt.opposed} == {SampleState.QUARANTINED}
    assert settings.quarantine_flow_floor > 5


async def test_a_released_label_is_learned_and_not_screened_a_second_time(screened: Screened) -> None:
    found = held(await screened.learn(*screened.wrong(40)))
    chosen = found[:20]
    for one in chosen:
        await screened.learner.samples.review(one.id, RELEASE)
    await screened.learner.learn_queued()
    released = await screened.learner.samples.get_many([one.id for one in chosen])
    assert states(released) == {SampleState.LEARNED: 20}
    others = await screened.learner.samples.quarantined(QuarantineFilter(), None, 100)
    assert len(others) == len(found) - 20


async def test_a_newer_label_counts_more_than_a_released_one(screened: Screened) -> None:
    one, *_ = held(await screened.learn(*screened.wrong(40)))
    await screened.learn((one.text, "card"))
    await screened.learner.samples.review(one.id, RELEASE)
    await screened.learner.learn_queued()
    after = await screened.learner.samples.get(one.id)
    assert after.state is SampleState.RETRACTED
    assert str(after.reason).startswith("replaced by")


async def test_a_held_label_takes_neither_a_queued_nor_a_learned_one_along(screened: Screened) -> None:
    pairs = screened.wrong(40)
    learned, queued = pairs[0][0], pairs[1][0]
    [before] = await screened.learn((learned, "card"))
    [waiting] = await screened.learner.accept([(queued, "card")])
    found = await screened.learn(*pairs)
    assert {one.text for one in held(found)} >= {learned, queued}
    await screened.learner.learn_queued()
    kept = await screened.learner.samples.get_many([before.id, waiting])
    assert states(kept) == {SampleState.LEARNED: 2}


async def test_a_new_label_may_take_texts_from_an_old_one(screened: Screened) -> None:
    split = [(text, "lost card") for text in islice(texts("card", seed=9), 30)]
    found: list[Sample] = []
    for start in range(0, 30, 3):
        found += await screened.learn(*split[start : start + 3])
    assert states(found) == {SampleState.LEARNED: 30}


async def test_an_import_is_the_operators_own_act_and_the_screen_can_be_turned_off(screened: Screened) -> None:
    from pawl.domain.samples import Origin

    imported = await screened.learn(*screened.wrong(20), origin=Origin.IMPORT)
    assert not held(imported)
    await screened.restart(quarantine_window=0)
    assert not held(await screened.learn(*screened.wrong(40, seed=10)))


@pytest.mark.parametrize("policy", ["newest", "quarantine"])
async def test_sources_that_disagree_about_one_text(screened: Screened, policy: str) -> None:
    await screened.restart(conflict=policy)
    text = next(texts("card", seed=30))
    [first] = await screened.learn((text, "card"), source="ann")
    [second] = await screened.learn((text, "transfer"), source="bob")
    first = await screened.learner.samples.get(first.id)
    if policy == "newest":
        assert (first.state, second.state) == (SampleState.RETRACTED, SampleState.LEARNED)
        return
    assert (first.state, second.state) == (SampleState.LEARNED, SampleState.QUARANTINED)
    assert second.quarantined_by is QuarantineKind.CONFLICT
    assert second.reason == f"`bob` calls this text transfer, `ann` called it card before ({first.id})"
    [own] = await screened.learn((text, "flight"), source="ann")
    assert own.state is SampleState.LEARNED
    await screened.learner.samples.review(second.id, RELEASE)
    await screened.learner.learn_queued()
    assert (await screened.learner.samples.get(second.id)).state is SampleState.RETRACTED


async def test_two_sources_that_disagree_in_one_batch(screened: Screened) -> None:
    await screened.restart(conflict="quarantine")
    text = next(texts("card", seed=31))
    [first] = await screened.learner.accept([(text, "card")], source="ann")
    [second] = await screened.learner.accept([(text, "transfer")], source="bob")
    await screened.learner.learn_queued()
    await screened.learner.learn_queued()
    assert [one.state for one in await screened.learner.samples.get_many([first, second])] == [
        SampleState.LEARNED,
        SampleState.QUARANTINED,
    ]


async def test_what_another_learner_saw_counts_too(screened: Screened) -> None:
    pairs = screened.wrong(20)
    other = replace(screened, learner=new_learner(screened.pawl.settings, screened.engine))
    await other.learn(*pairs[:5])
    found = await screened.learn(*pairs[5:])
    assert len(held(found)) > 8
