"""A task, or what one source said in it, is taken out through a learner on real stores: every sample leaves exactly."""

from __future__ import annotations

import pytest

from pawl.domain.errors import Conflict, ItemsRefused, SourceNotFound, TaskNotFound
from pawl.domain.labels import LabelChangeKind, LabelChangeState, LabelRequest
from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import LedgerAction
from tests.intents import Labelled, labelled
from tests.worker.lives import Lived, assert_exact, live
from worker.state.snapshots import pack

MOOD: list[Labelled] = [(text, f"mood {label}") for text, label in labelled(30, seed=3)]


async def with_mood(lived: Lived) -> list[str]:
    """A second task in version 2; ids of its samples."""
    learned = await lived.learner.accept(MOOD, task="mood")
    await lived.learner.learn_queued()
    return learned


async def test_a_dropped_task_leaves_with_all_its_samples(lived: Lived) -> None:
    learner = lived.learner
    learned = await with_mood(lived)
    queued = await learner.accept([("not yet learned", "mood card")], task="mood")
    [golden] = await learner.accept([("a judge", "mood card")], task="mood", golden=True)
    change = await learner.change_label("drop", "", task="mood")
    version = await live(learner)
    assert (change.state, change.version) == (LabelChangeState.APPLIED, version.number)
    assert (version.trigger, version.gate["forced"], list(version.heads)) == (
        "task dropped",
        "task dropped",
        ["default"],
    )
    assert list(lived.pawl.offline(version.number).heads) == ["default"]
    rows = await learner.ledger.ledger(version.number - 1)
    assert sorted((row.sample_id, row.action) for row in rows) == sorted((one, LedgerAction.UNLEARN) for one in learned)
    found = {one.id: (one.state, one.reason) for one in await learner.samples.get_many([*learned, *queued, golden])}
    why = f"the task 'mood' was dropped ({change.id})"
    assert {found[one] for one in learned} == {(SampleState.RETRACTED, why)}
    assert found[queued[0]] == (SampleState.REJECTED, why)
    assert found[golden] == (SampleState.RETRACTED, why)
    await assert_exact(lived)
    assert set((await lived.restarted()).tasks) == set(lived.state.tasks) == {"default"}


async def test_a_dropped_task_stays_away_until_it_is_asked_for(lived: Lived) -> None:
    learner = lived.learner
    await with_mood(lived)
    await learner.change_label("drop", "", task="mood")
    with pytest.raises(ItemsRefused, match="There is no task 'mood'"):
        await learner.samples.accept([NewSample("text", "mood card", "mood")])
    with pytest.raises(TaskNotFound, match="'mood'"):
        await learner.labels.request(LabelRequest(LabelChangeKind.DROP, "mood", ""))
    await learner.promote_again(2)  # whose head had the task
    assert list((await live(learner)).heads) == ["default"]
    await learner.learn_queued()
    assert list((await live(learner)).heads) == ["default"]
    again = await learner.accept(MOOD[:6], task="mood")
    await learner.learn_queued()
    assert {one.state for one in await learner.samples.get_many(again)} == {SampleState.LEARNED}
    assert set((await live(learner)).heads) == {"default", "mood"}


async def test_nothing_comes_into_a_task_that_is_being_dropped(lived: Lived) -> None:
    await with_mood(lived)
    labels, samples = lived.learner.labels, lived.learner.samples
    change = await labels.request(LabelRequest(LabelChangeKind.DROP, "mood", ""))
    with pytest.raises(ItemsRefused, match=f"is being dropped \\({change.id}\\)"):
        await samples.accept([NewSample("text", "mood card", "mood")])
    with pytest.raises(Conflict, match="under way"):
        await labels.request(LabelRequest(LabelChangeKind.RETIRE, "mood", "mood card"))
    [summary] = [one for one in await labels.tasks() if one.name == "mood"]
    assert (summary.pending, summary.samples["learned"], summary.labels, summary.served) == (change.id, 30, 5, True)


async def test_the_last_task_can_be_dropped_and_a_new_one_made(lived: Lived) -> None:
    learner = lived.learner
    change = await learner.change_label("drop", "")
    version = await live(learner)
    assert (change.version, dict(version.heads), lived.state.samples) == (version.number, {}, 0)
    assert list(lived.pawl.offline(version.number).heads) == []
    learner.parts.snapshots.write(pack(lived.state))
    assert (await lived.restarted()).tasks == {}
    await learner.accept(labelled(20, seed=8))
    await learner.learn_queued()
    assert list((await live(learner)).heads) == ["default"]
    await assert_exact(lived)


async def test_what_a_source_said_leaves_and_so_do_labels_that_only_it_used(lived: Lived) -> None:
    learner = lived.learner
    demo = await learner.accept(
        [*labelled(20, seed=5), *((text, "demo only") for text, _ in labelled(9, seed=6))], source="demo"
    )
    await learner.learn_queued()
    [waiting] = await learner.accept([("still queued", "card")], source="demo")
    change = await learner.change_label("drop", "", "demo")
    assert (change.state, change.target) == (LabelChangeState.APPLIED, "demo")
    version = await live(learner)
    assert change.version == version.number
    assert "demo only" not in version.heads["default"].labels
    states = {one.id: one.state for one in await learner.samples.get_many([*demo, waiting])}
    assert {states[one] for one in demo} == {SampleState.RETRACTED}
    assert states[waiting] is SampleState.REJECTED
    assert sum((await learner.samples.label_counts("default")).values()) == 200
    await assert_exact(lived)
    again = await lived.restarted()
    assert again.tasks["default"].labels == lived.state.tasks["default"].labels
    with pytest.raises(SourceNotFound, match="'demo'"):
        await learner.labels.request(LabelRequest(LabelChangeKind.DROP, "default", "", "demo"))


async def test_a_task_of_one_source_goes_with_it(lived: Lived) -> None:
    learner = lived.learner
    await learner.accept(MOOD, task="mood", source="demo")
    await learner.learn_queued()
    assert [one.name for one in await learner.labels.tasks("demo")] == ["mood"]
    await learner.change_label("drop", "", "demo", task="mood")
    assert list((await live(learner)).heads) == ["default"]
    assert [one.name for one in await learner.labels.tasks()] == ["default"]
