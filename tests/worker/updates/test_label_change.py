"""Changes of labels through a learner on real stores: each is one version, and exact."""

from __future__ import annotations

import numpy as np
import pytest

from pawl.db.engine import connect
from pawl.domain.labels import LabelChangeKind, LabelChangeState, LabelRequest
from pawl.domain.samples import SampleState
from pawl.domain.versions import LedgerAction, VersionKind
from tests.intents import labelled, texts
from tests.learners import new_learner
from tests.processes import Installer
from tests.worker.lives import Lived, assert_exact, assert_same, live


async def test_a_rename_changes_the_name_and_nothing_else(lived: Lived) -> None:
    before = lived.pawl.offline(1).heads["default"].semantic
    change = await lived.learner.change_label("rename", "card", "bank card")
    version = await live(lived.learner)
    assert (change.state, change.version) == (LabelChangeState.APPLIED, version.number)
    assert (version.kind, version.trigger, version.number) == (VersionKind.HEAD, "label renamed", 2)
    assert version.gate["forced"] == "label change"
    assert version.gate["tasks"]["default"]["overall"]["lost"] == 0
    assert version.metrics["label_change"] == change.id
    after = lived.pawl.offline(2).heads["default"].semantic
    assert after.labels == tuple("bank card" if label == "card" else label for label in before.labels)
    np.testing.assert_array_equal(after.weights, before.weights)
    np.testing.assert_array_equal(after.offsets, before.offsets)
    assert lived.pawl.offline(2).predict([next(texts("card", seed=5))])[0].label == "bank card"


@pytest.mark.parametrize("more", [0, 30])
async def test_a_merge_is_the_direct_solve(lived: Lived, more: int) -> None:
    """40 and 40 become 80, which weigh 1 and no longer 2 each; with 70 in one of them that changes in the other."""
    await lived.learner.accept(labelled(more, seed=3, labels=("transfer",)))
    await lived.learner.learn_queued()
    await lived.learner.change_label("merge", "card", "transfer")
    await assert_exact(lived)
    assert await lived.learner.samples.label_counts("default") == {
        "transfer": 80 + more,
        "flight": 40,
        "profit": 40,
        "password": 40,
    }
    report = (await live(lived.learner)).gate
    assert (report["forced"], report["accepted"]) == ("label change", True)


async def test_a_retired_label_leaves_exactly(lived: Lived) -> None:
    learner = lived.learner
    queued = await learner.accept(labelled(3, seed=4, labels=("card",)))
    change = await learner.change_label("retire", "card")
    await assert_exact(lived)
    assert change.version == 2
    assert "card" not in lived.pawl.offline(2).heads["default"].labels
    rows = await learner.ledger.ledger(1)
    assert [row.action for row in rows] == [LedgerAction.UNLEARN] * 40
    assert {one.state for one in await learner.samples.get_many([row.sample_id for row in rows])} == {
        SampleState.RETRACTED
    }
    assert {one.state for one in await learner.samples.get_many(queued)} == {SampleState.REJECTED}
    await learner.parts.head_update.learn(queued)
    assert (await live(learner)).number == 2


async def test_a_life_of_changes(lived: Lived) -> None:
    learner = lived.learner
    fresh = iter(labelled(200, seed=2))
    old = await learner.samples.learned("default")
    await learner.accept([next(fresh) for _ in range(10)], golden=True)
    await learner.parts.runner.refresh_golden()
    await learner.accept([next(fresh) for _ in range(20)])  # some of these wait under their old labels
    await learner.change_label("rename", "card", "bank card")
    await learner.learn_queued()
    await assert_exact(lived)
    await learner.accept([(old[2].text, "wire"), (old[1].text, "wire")])
    await learner.learn_queued()
    await learner.change_label("merge", "wire", "transfer")
    await assert_exact(lived)
    await learner.samples.request_retraction(old[7].id)
    await learner.accept([(next(texts("card", seed=8)), "card"), (old[3].text, "flight"), next(fresh)])
    await learner.learn_queued()
    await assert_exact(lived)
    await learner.change_label("retire", "profit")
    await learner.change_label("add", "profit")
    await learner.accept(labelled(4, seed=9, labels=("profit",)))
    await learner.learn_queued()
    await assert_exact(lived)
    counts = await learner.samples.label_counts("default")
    assert counts["profit"] == 4
    assert "card" not in counts
    assert_same(lived.state, await lived.restarted())


async def test_the_older_of_two_samples_of_one_text_leaves_when_their_labels_become_one(lived: Lived) -> None:
    learner = lived.learner
    old = (await learner.samples.learned("default"))[0]
    other = "profit" if old.label != "profit" else "card"
    [newer] = await learner.accept([(old.text, other)])
    await learner.change_label("merge", old.label, other)
    await assert_exact(lived)
    await learner.learn_queued()
    states = {one.id: (one.state, one.label) for one in await learner.samples.get_many([old.id, newer])}
    assert states == {old.id: (SampleState.RETRACTED, other), newer: (SampleState.LEARNED, other)}
    await assert_exact(lived)


async def test_a_change_that_cannot_be_made_fails_and_says_why(lived: Lived) -> None:
    learner = lived.learner
    for label in ("card", "transfer", "flight"):
        await learner.change_label("retire", label)
    await learner.accept([("some text", "extra"), ("another text", "extra")])
    await learner.learn_queued()
    asked = await learner.labels.request(LabelRequest(LabelChangeKind.RETIRE, "default", "profit"))
    for sample in await learner.samples.learned_with_label("default", "extra", 10):
        await learner.samples.request_retraction(sample.id)
    await learner.learn_queued()
    await learner.parts.label_changer.carry_out()
    failed = await learner.labels.get(asked.id)
    assert failed.state is LabelChangeState.FAILED
    assert "fewer than 2" in (failed.problem or "")
    await assert_exact(lived)


async def test_a_label_that_is_only_queued_needs_no_version(install: Installer) -> None:
    pawl = install.empty(bootstrap_samples=1000)
    async with pawl.stores():
        engine = connect(pawl.settings.sql_url)
        learner = new_learner(pawl.settings, engine)
        queued = await learner.accept([("a text", "a"), ("b text", "b")])
        changes = [await learner.change_label("rename", "a", "A"), await learner.change_label("retire", "b")]
        found = await learner.samples.get_many(queued)
        await engine.dispose()
    assert [(one.state, one.version) for one in changes] == [(LabelChangeState.APPLIED, None)] * 2
    assert [(one.label, one.state) for one in found] == [("A", SampleState.QUEUED), ("b", SampleState.REJECTED)]
