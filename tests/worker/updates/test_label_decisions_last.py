"""Nothing of a change of labels is lost by a restart, a crash, another learner, a roll-back or a consolidation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pawl.classifier.encoders.spec import encoder_digest
from pawl.domain.errors import ParentNotLive
from pawl.domain.labels import LabelChangeKind, LabelRequest
from pawl.domain.samples import SampleState
from pawl.domain.versions import VersionKind
from pawl.ports import Floats
from tests.intents import labelled, texts
from tests.learners import Crash, Fuse, new_learner
from tests.worker.lives import Lived, assert_exact, assert_same, live, weights_by_label
from worker.consolidation.job import Result
from worker.state.learner_state import LearnerState
from worker.state.snapshots import pack
from worker.updates.encoder_swap import Cause, EncoderSwap


@pytest.mark.parametrize("snapshot", ["none", "before", "after"])
async def test_after_a_restart(lived: Lived, snapshot: str) -> None:
    learner = lived.learner
    shutil.rmtree(lived.pawl.settings.snapshots_path, ignore_errors=True)
    if snapshot == "before":
        learner.parts.snapshots.write(pack(lived.state))
    await learner.change_label("merge", "card", "transfer")
    await learner.change_label("rename", "flight", "trip")
    await learner.change_label("retire", "profit")
    assert lived.state.unsaved >= lived.pawl.settings.snapshot_every
    if snapshot == "after":
        learner.parts.snapshots.write(pack(lived.state))
    await learner.accept([(text, "trip") for text, _ in labelled(5, seed=4, labels=("flight",))])
    await learner.learn_queued()
    found = await lived.restarted()
    assert_same(lived.state, found)
    assert found.tasks["default"].labels == lived.state.tasks["default"].labels
    await assert_exact(lived)


async def test_two_learners_take_turns(lived: Lived) -> None:
    """What the other one changed is followed, and of two that carry out one change one wins."""
    one, other = lived.learner, new_learner(lived.pawl.settings, lived.engine)
    await other.runner.catch_up()
    await one.change_label("merge", "card", "transfer")
    await other.change_label("rename", "flight", "trip")
    await assert_exact(lived, other)
    await one.labels.request(LabelRequest(LabelChangeKind.RETIRE, "default", "profit"))
    await one.runner.catch_up()
    await assert_exact(lived)
    one.meanwhile["before promote"] = other.parts.label_changer.carry_out
    with pytest.raises(ParentNotLive):
        await one.parts.label_changer.carry_out()
    await one.runner.catch_up()
    await one.parts.label_changer.carry_out()
    assert [change.kind for change in await one.labels.applied(3)] == [LabelChangeKind.RETIRE]
    await one.accept(labelled(5, seed=3, labels=("password",)))
    await one.learn_queued()
    await assert_exact(lived)


@pytest.mark.parametrize("where", ["before promote", "after promote", "after publish", "before pending"])
async def test_a_crash_leaves_the_change_done_or_waiting(lived: Lived, where: str) -> None:
    await lived.learner.labels.request(LabelRequest(LabelChangeKind.MERGE, "default", "card", "transfer"))
    dying = new_learner(lived.pawl.settings, lived.engine, Fuse(where=where))
    await dying.runner.catch_up()
    with pytest.raises(Crash):
        await dying.parts.label_changer.carry_out()
    after = new_learner(lived.pawl.settings, lived.engine)
    await after.runner.catch_up()
    await after.parts.label_changer.carry_out()
    await assert_exact(lived, after)
    assert await after.labels.pending() == []
    changes = await after.labels.applied(0)
    assert [one.kind for one in changes] == [LabelChangeKind.MERGE]


@pytest.mark.parametrize("by", ["following", "restart"])
async def test_a_decision_survives_a_roll_back(lived: Lived, by: str) -> None:
    learner = lived.learner
    await learner.change_label("rename", "card", "bank card")
    await learner.change_label("merge", "flight", "transfer")
    await learner.change_label("retire", "profit")
    learned = await learner.accept([(next(texts("card", seed=8)), "card")])
    await learner.learn_queued()
    made = await learner.promote_again(1)
    assert set(lived.pawl.offline(made.number).heads["default"].labels) == {"bank card", "transfer", "password"}
    assert made.gate["pending_label_changes"]
    if by == "restart":
        learner = new_learner(lived.pawl.settings, lived.engine)
    await learner.runner.catch_up()
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
    parts = learner.parts
    swap = EncoderSwap(parts.ports, parts.publisher, parts.recovery, parts.settings)
    result = Result(encoder_digest=encoder.digest, trained=tuple(trained), samples_new=50, watermark=200, metrics={})
    cause = Cause(state.version, "test")
    made = await swap.swap(learner.runner, encoder, folder, result, cause)
    assert made.state.value == "live", made.gate["reasons"]
    assert made.kind is VersionKind.CONSOLIDATION
    assert set(made.labels["default"]) == {"bank card", "transfer", "password"}
    assert learner.runner.state is not None
    assert set(weights_by_label(learner.runner.state, "default")) == {"bank card", "transfer", "password"}


class RenamedEncoder:
    """The state's encoder under another digest."""

    def __init__(self, state: LearnerState, digest: str) -> None:
        self._encoder = state.encoder
        self.digest = digest
        self.dimension = state.encoder.dimension

    def encode(self, texts: Sequence[str]) -> Floats:
        return self._encoder.encode(texts)
