"""What words must not answer alone: each version names the texts, and says why words are silent where they are."""

from __future__ import annotations

from typing import Any

import pytest

from pawl.classifier.lexical_head import WordsAlone, kept_number
from pawl.domain.samples import Origin, digest_text
from tests.intents import labelled
from tests.learners import Learner, new_learner, opened
from tests.processes import LENIENT, Installation, Installer
from worker.release.words_monitor import Promise


async def alone(pawl: Installation, learner: Learner) -> WordsAlone:
    """What the live version says of words."""
    [version] = await learner.ledger.page(None, 1)
    lexical = pawl.offline(version.number).heads["default"].lexical
    assert lexical is not None
    return lexical.alone


def number(text: str) -> int:
    return kept_number(digest_text(text))


async def test_each_version_names_the_texts_that_were_corrected_or_are_golden(install: Installer) -> None:
    pawl = install.trained(**LENIENT)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        corrected, imported, golden, last = labelled(4, seed=91)
        [sample_id] = await learner.accept([corrected])
        await learner.accept([imported], origin=Origin.IMPORT)
        await learner.learn_queued()
        kept = (await alone(pawl, learner)).kept
        assert number(corrected[0]) in kept
        assert number(imported[0]) not in kept
        # A start reads from SQL what steps have followed.
        other = new_learner(pawl.settings, engine)
        await other.runner.catch_up()
        assert other.runner.live.words["default"].kept.numbers.tolist() == kept.tolist()
        await learner.accept([golden], golden=True)
        await learner.runner.refresh_golden()
        await learner.samples.request_retraction(sample_id)
        await learner.learn_queued()
        await learner.accept([last])
        await learner.learn_queued()
        after = (await alone(pawl, learner)).kept
        assert {number(golden[0]), number(last[0])} <= set(after.tolist())
        assert number(corrected[0]) not in after


@pytest.mark.parametrize(("settings", "reason"), [({"fast_answers_loss": "off"}, "is off"), ({}, None)])
async def test_a_version_says_why_words_are_silent(
    install: Installer, settings: dict[str, Any], reason: str | None
) -> None:
    pawl = install.trained(**LENIENT, **settings)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        await learner.accept(labelled(1, seed=91))
        await learner.learn_queued()
        [version] = await learner.ledger.page(None, 1)
        report = version.metrics["fast_answers"]["default"]
        threshold = (await alone(pawl, learner)).threshold
        assert (threshold is None) == (report["share"] == 0.0) == ("reason" in report)
        assert reason is None or reason in report["reason"]


async def test_words_that_turn_out_worse_than_promised_are_silenced_and_stay_so(
    install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Promise, "of", classmethod(lambda *_: Promise(0.97, 0.6, 0.5)))
    pawl = install.trained(**LENIENT, probation_items=10, probation_alpha=0.05, fast_answers_loss=10.0)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        await learner.accept(labelled(150, seed=92), served_label="another", served_by="both")
        for pair in labelled(150, seed=93):
            await learner.accept([pair], served_label=pair[1], served_by="both")
        await learner.learn_queued()
        await learner.accept(labelled(60, seed=94), served_label="another", served_by="words")
        await learner.learn_queued()
        events = [each for each in await learner.ledger.events(0, 10_000) if each.type == "words_failed"]
        assert len(events) == 1
        silenced = await learner.ledger.get(events[0].payload["version"])
        assert silenced.trigger == "words"
        assert "labels for answers by words alone" in str(silenced.reason)
        assert "contradicted" in silenced.metrics["fast_answers"]["default"]["reason"]
        assert (await alone(pawl, learner)).threshold is None
        # A start, and the next version, remember it.
        other = new_learner(pawl.settings, engine)
        await other.accept(labelled(1, seed=95))
        await other.learn_queued()
        [version] = await other.ledger.page(None, 1)
        assert version.number > silenced.number
        assert version.metrics["words_failed_at"] == silenced.metrics["words_failed_at"]
        assert (await alone(pawl, other)).threshold is None
