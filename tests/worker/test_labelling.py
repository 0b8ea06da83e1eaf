"""Changes of labels through a learner on real stores: exact, each one version, and nothing of them lost by a restart,
a roll-back, another learner or a consolidation.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from app.core.classifier.encoder_folder import encoder_digest
from app.core.db.engine import connect
from app.core.domain.errors import ParentNotLive
from app.core.domain.labels import LabelChangeKind, LabelChangeState, LabelRequest
from app.core.domain.samples import SampleState
from app.core.domain.versions import LedgerAction, Version, VersionKind
from app.core.ports import Floats
from app.core.rollback import promote_again
from app.core.streams.memory import MemoryFeedbackStream
from tests.direct_solve import direct_weights, relative_error
from tests.intents import labelled, texts
from tests.learners import Crash, Fuse, Learner, new_learner, opened
from tests.processes import LENIENT, Installer
from tests.worker.test_recovery import Lived, assert_same, weights_by_label
from worker.publisher import Publisher
from worker.state import LearnerState
from worker.succession import Succession

SETTINGS = {**LENIENT, "head_precision": "float64"}


@pytest.fixture
async def lived(install: Installer) -> AsyncIterator[Lived]:
    """Version 1: 40 samples of each of five labels."""
    pawl = install.trained(**SETTINGS)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        await learner.learning.catch_up()
        yield Lived(pawl, engine, learner)


async def live(learner: Learner) -> Version:
    version = await learner.ledger.live()
    assert version is not None
    return version


async def assert_exact(lived: Lived, learner: Learner | None = None) -> None:
    """The served head is the direct solve over what SQL says is learned."""
    learner = learner or lived.learner
    version = await live(learner)
    model, learned = lived.pawl.offline(version.number), await learner.samples.learned("default")
    expected = direct_weights(model, learned, version.metrics["regularisation"]["default"])
    assert set(model.heads["default"].labels) >= {sample.label for sample in learned}
    assert relative_error(model.heads["default"].weights, expected) < 1e-5
    state = learner.learning.state
    assert state is not None
    counts = await learner.samples.label_counts("default")
    task = state.tasks["default"]
    assert {label: n for label, n in zip(task.labels, task.counts, strict=True) if n} == counts


async def test_a_rename_changes_the_name_and_nothing_else(lived: Lived) -> None:
    before = lived.pawl.offline(1).heads["default"]
    change = await lived.learner.change_label("rename", "card", "bank card")
    version = await live(lived.learner)
    assert (change.state, change.version) == (LabelChangeState.APPLIED, version.number)
    assert (version.kind, version.trigger, version.number) == (VersionKind.HEAD, "label renamed", 2)
    assert version.gate["forced"] == "label change"
    assert version.gate["tasks"]["default"]["overall"]["lost"] == 0
    assert version.metrics["label_change"] == change.id
    after = lived.pawl.offline(2).heads["default"]
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
    await learner.learning.learn(queued)
    assert (await live(learner)).number == 2


async def test_a_life_of_changes(lived: Lived) -> None:
    learner = lived.learner
    fresh = iter(labelled(200, seed=2))
    old = await learner.samples.learned("default")
    await learner.accept([next(fresh) for _ in range(10)], golden=True)
    await learner.recovery.seat_golden(lived.state)
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


@pytest.mark.parametrize("snapshot", ["none", "before", "after"])
async def test_after_a_restart(lived: Lived, snapshot: str) -> None:
    learner = lived.learner
    shutil.rmtree(lived.pawl.settings.snapshots_path, ignore_errors=True)
    if snapshot == "before":
        learner.snapshots.save(lived.state)
    await learner.change_label("merge", "card", "transfer")
    await learner.change_label("rename", "flight", "trip")
    await learner.change_label("retire", "profit")
    assert lived.state.unsaved >= lived.pawl.settings.snapshot_every
    if snapshot == "after":
        learner.snapshots.save(lived.state)
    await learner.accept([(text, "trip") for text, _ in labelled(5, seed=4, labels=("flight",))])
    await learner.learn_queued()
    found = await lived.restarted()
    assert_same(lived.state, found)
    assert found.tasks["default"].labels == lived.state.tasks["default"].labels
    await assert_exact(lived)


async def test_two_learners_take_turns(lived: Lived) -> None:
    """What the other one changed is followed, and of two that carry out one change one wins."""
    one, other = lived.learner, new_learner(lived.pawl.settings, lived.engine)
    await other.learning.catch_up()
    await one.change_label("merge", "card", "transfer")
    await other.change_label("rename", "flight", "trip")
    await assert_exact(lived, other)
    await one.labels.request(LabelRequest(LabelChangeKind.RETIRE, "default", "profit"))
    await one.learning.catch_up()
    await assert_exact(lived)
    one.meanwhile["before promote"] = other.labelling.carry_out
    with pytest.raises(ParentNotLive):
        await one.labelling.carry_out()
    await one.learning.catch_up()
    await one.labelling.carry_out()
    assert [change.kind for change in await one.labels.applied(3)] == [LabelChangeKind.RETIRE]
    await one.accept(labelled(5, seed=3, labels=("password",)))
    await one.learn_queued()
    await assert_exact(lived)


@pytest.mark.parametrize("where", ["before promote", "after promote", "after publish", "before pending"])
async def test_a_crash_leaves_the_change_done_or_waiting(lived: Lived, where: str) -> None:
    await lived.learner.labels.request(LabelRequest(LabelChangeKind.MERGE, "default", "card", "transfer"))
    dying = new_learner(lived.pawl.settings, lived.engine, Fuse(where=where))
    await dying.learning.catch_up()
    with pytest.raises(Crash):
        await dying.labelling.carry_out()
    after = new_learner(lived.pawl.settings, lived.engine)
    await after.learning.catch_up()
    await after.labelling.carry_out()
    await assert_exact(lived, after)
    assert await after.labels.pending() == []
    changes = await after.labels.applied(0)
    assert [one.kind for one in changes] == [LabelChangeKind.MERGE]


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
    await learner.labelling.carry_out()
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


@pytest.mark.parametrize("by", ["following", "restart"])
async def test_a_decision_survives_a_roll_back(lived: Lived, by: str) -> None:
    learner = lived.learner
    await learner.change_label("rename", "card", "bank card")
    await learner.change_label("merge", "flight", "transfer")
    await learner.change_label("retire", "profit")
    learned = await learner.accept([(next(texts("card", seed=8)), "card")])
    await learner.learn_queued()
    made = await promote_again(
        1,
        reason="test",
        promoted_by="test",
        ledger=learner.ledger,
        labels=learner.labels,
        artefacts=learner.artefacts,
        stream=MemoryFeedbackStream(),
    )
    assert set(lived.pawl.offline(made.number).heads["default"].labels) == {"bank card", "transfer", "password"}
    assert made.gate["pending_label_changes"]
    if by == "restart":
        learner = new_learner(lived.pawl.settings, lived.engine)
    await learner.learning.catch_up()
    version = await live(learner)
    assert (version.number, version.kind, version.trigger) == (made.number + 1, VersionKind.HEAD, "retraction")
    [quarantined] = await learner.samples.get_many(learned)
    assert (quarantined.state, quarantined.label) == (SampleState.QUARANTINED, "bank card")
    await assert_exact(lived, learner)
    assert set(version.labels["default"]) == {"bank card", "transfer", "password"}
    assert await learner.samples.label_counts("default") == {"bank card": 40, "transfer": 80, "password": 40}


async def test_what_a_consolidation_brings_gets_the_labels_of_now(lived: Lived, tmp_path: Path) -> None:
    """It was started before the changes: trained on the old labels, its embeddings are of the old samples too."""
    learner, state = lived.learner, lived.state
    trained = [one.id for one in await learner.samples.learned("default")][:50]
    folder = tmp_path / "encoder"
    shutil.copytree(state.encoder_folder, folder)
    (folder / "note.txt").write_text("as good as new")  # another digest, the same embeddings
    encoder = RenamedEncoder(state, encoder_digest(folder))
    await learner.change_label("rename", "card", "bank card")
    await learner.change_label("merge", "flight", "transfer")
    await learner.change_label("retire", "profit")
    publisher = Publisher(learner.ledger, learner.artefacts, MemoryFeedbackStream(), keep_versions=100)
    succession = Succession(learner.samples, learner.ledger, publisher, learner.recovery, lived.pawl.settings)
    result = {"trained": trained, "samples_new": 50, "samples_replayed": 0, "watermark": 200, "metrics": {}}
    made = await succession.take_over(learner.learning, encoder, folder, result, "test")
    assert made.state.value == "live", made.gate["reasons"]
    assert made.kind is VersionKind.CONSOLIDATION
    assert set(made.labels["default"]) == {"bank card", "transfer", "password"}
    assert learner.learning.state is not None
    assert set(weights_by_label(learner.learning.state, "default")) == {"bank card", "transfer", "password"}


class RenamedEncoder:
    """The state's encoder under another digest."""

    def __init__(self, state: LearnerState, digest: str) -> None:
        self._encoder = state.encoder
        self.digest = digest
        self.dimension = state.encoder.dimension

    def encode(self, texts: Sequence[str]) -> Floats:
        return self._encoder.encode(texts)
