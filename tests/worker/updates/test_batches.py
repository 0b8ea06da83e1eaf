"""A batch is judged once, as a whole, against the version before it; what of it does harm is found and kept out."""

from __future__ import annotations

from itertools import islice

import pytest

from pawl.domain.quarantine import Review, ReviewAction
from pawl.domain.samples import Sample, SampleState
from pawl.domain.versions import VersionState
from tests.banking import KNOWN, NEW, rows, texts
from tests.intents import Labelled
from tests.learners import new_learner
from tests.processes import Installer
from tests.worker.banks import Bank, bank
from tests.worker.lives import assert_exact, assert_same
from worker.updates import batches

LEARNED, QUARANTINED = "learned", "quarantined"
GOOD = 23
"""Texts of each new intent: 276 rows."""


def growth() -> list[Labelled]:
    """Twelve new intents."""
    return rows(list(NEW), GOOD, seed=5)


def double() -> list[Labelled]:
    """A label that is another one's double."""
    return [(text, "refund") for text in islice(texts("refund_status", seed=8), 30)]


def flipped(count: int = 90) -> list[Labelled]:
    """Texts of one known intent under another's label."""
    return [(text, "exchange_rate") for text in islice(texts("card_blocked", seed=8), count)]


async def everything_is_known(made: Bank, least: float = 0.87) -> None:
    """The classes of version 1 are as good as they were, each measured without its own labels."""
    learner = made.state.tasks["default"]
    right = (learner.leave_one_out().argmax(1) == learner.evaluation.targets).tolist()
    first = {row.sample_id for row in await made.learner.ledger.ledger(0, 1)}
    for label in KNOWN:
        column = learner.labels.index(label)
        own = [
            is_right
            for item, is_right in zip(learner.evaluation.items, right, strict=True)
            if item.class_index == column and item.sample_id in first
        ]
        assert sum(own) / len(own) > least, label


async def release_one_by_one(made: Bank, samples: list[Sample]) -> None:
    for sample in samples:
        await made.learner.samples.review(sample.id, Review(ReviewAction.RELEASE, "it is right", "ann"))
        await made.learner.learn_queued()


async def test_an_import_of_new_classes_is_judged_as_a_whole_however_it_is_delivered(install: Installer) -> None:
    async with bank(install, bulk_batch=50) as made:
        ids = await made.import_rows(growth())
        await made.learner.parts.head_update.learn(ids[100:110])  # what the stream happened to bring
        [version] = (await made.versions())[1:]
        assert (version.state, version.samples_new) == (VersionState.LIVE, len(ids))
        assert await made.fates(ids) == {LEARNED: dict.fromkeys(NEW, GOOD)}
        report = version.gate["tasks"]["default"]
        assert report["overall"]["live"] < 0.8
        assert report["overall"]["candidate"] > 0.9
        assert report["known"]["items"] == len(KNOWN) * 33
        await assert_exact(made)


async def test_the_harmful_group_of_an_import_is_found_and_the_rest_is_one_version(install: Installer) -> None:
    async with bank(install) as made:
        ids = await made.import_rows([*growth(), *double(), *flipped()])
        await made.learner.learn_queued()
        _, whole, learned = await made.versions()
        assert (whole.state, whole.samples_new) == (VersionState.REFUSED, len(ids))
        assert (learned.state, learned.gate["accepted"], learned.gate["reasons"]) == (VersionState.LIVE, True, [])
        fates = await made.fates(ids)
        assert set(fates) == {LEARNED, QUARANTINED}
        assert {label: fates[LEARNED][label] for label in NEW} == dict.fromkeys(NEW, GOOD)
        assert fates[QUARANTINED]["refund"] == 30
        assert fates[QUARANTINED]["exchange_rate"] > 40
        found = {sample.label: sample for sample in await made.get(ids, SampleState.QUARANTINED)}
        assert (found["refund"].reason or "").startswith("harms: class 'refund_status' falls from ")
        assert (found["exchange_rate"].reason or "").startswith("harms: class 'card_blocked' falls from ")
        await everything_is_known(made)
        await assert_exact(made)
        assert_same(made.state, await made.restarted())


async def test_overlap_is_a_trade_that_is_reported_by_name(install: Installer) -> None:
    async with bank(install) as made:
        await made.import_rows(growth())
        await made.learner.learn_queued()
        version = (await made.versions())[-1]
        overlaps = version.gate["tasks"]["default"]["overlaps"]
        assert overlaps, "close intents were written to overlap"
        worst = overlaps[0]
        assert worst["sentence"] == (
            f"{worst['label']} takes {worst['taken']} of {worst['items']} texts of {worst['old_label']}: "
            f"the same thing? `pawl labels merge`"
        )
        events = [one.payload for one in await made.learner.ledger.events(0, 1000) if one.type == "labels_overlap"]
        assert events == [{"version": version.number, "accepted": True, "tasks": {"default": overlaps}}]


async def test_no_sequence_of_parts_reaches_what_the_whole_was_refused_for(install: Installer) -> None:
    """Not the search, not the sweep, not deliveries of a part, not the release of one label after the other."""
    async with bank(install) as made:
        ids = await made.import_rows(flipped())
        for start in range(0, len(ids), 25):
            await made.learner.parts.head_update.learn(ids[start : start + 25])
        await made.learner.learn_queued()
        held = await made.get(ids, SampleState.QUARANTINED)
        assert len(held) > 40
        await release_one_by_one(made, held[:15])
        again = await made.get([one.id for one in held], SampleState.QUARANTINED)
        assert len(again) > 0.9 * len(held)  # a harmless one may pass
        await everything_is_known(made)
        live = (await made.versions(VersionState.LIVE))[0]
        assert not any(one.state is SampleState.QUEUED for one in await made.learner.samples.get_many(ids))
        assert live.number > 1  # what is harmless of it was learned


async def test_what_was_refused_as_feedback_is_not_learned_in_parts_either(install: Installer) -> None:
    async with bank(install, quarantine_window=0, probation_window=0) as made:
        ids = await made.learner.accept(flipped())
        await made.learner.parts.head_update.learn(ids)
        held = await made.get(ids, SampleState.QUARANTINED)
        assert len(held) > 40
        await release_one_by_one(made, held[:8])
        assert len(await made.get([one.id for one in held], SampleState.QUARANTINED)) > 0.9 * len(held)
        await everything_is_known(made)


@pytest.mark.parametrize("restarts", [False, True])
async def test_parts_of_a_huge_import_are_judged_with_those_before_them(
    install: Installer, monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    monkeypatch.setattr(batches, "JUDGED_TOGETHER", 30)
    async with bank(install) as made:
        mixed = [pair for pairs in zip(growth()[:90], flipped(), strict=True) for pair in pairs]
        ids = await made.import_rows(mixed)
        while await made.learner.samples.queued(1):
            if restarts:
                made.learner = new_learner(made.pawl.settings, made.engine)
            await made.learner.learn_queued()
        fates = await made.fates(ids)
        assert fates[QUARANTINED]["exchange_rate"] > 40
        assert sum(fates[LEARNED][label] for label in NEW) > 0.8 * 90
        await everything_is_known(made, 0.8)  # the first part cost a little, which the gate allows
        await assert_exact(made)


async def test_an_owner_who_means_it_has_an_import_learned_whatever_the_gate_finds(install: Installer) -> None:
    async with bank(install) as made:
        ids = await made.import_rows([*double(), *flipped()], accept_reason="these are right, we looked")
        await made.learner.learn_queued()
        version = (await made.versions())[-1]
        assert (version.state, version.samples_new) == (VersionState.LIVE, len(ids))
        assert (version.gate["forced"], version.reason) == ("these are right, we looked",) * 2
        assert any("class 'card_blocked' falls" in reason for reason in version.gate["reasons"])
        assert set(await made.fates(ids)) == {LEARNED}
