"""The same sample with another attribute, through a learner: the head is what it would be had that always been so."""

from __future__ import annotations

from dataclasses import replace

from pawl.domain.samples import NewSample, SampleState
from tests.intents import labelled
from tests.worker.lives import Lived, assert_exact, live


async def again(lived: Lived, text: str, label: str, **more: object) -> str:
    """The sample sent again, then all that waits learned; the receipt's id."""
    [receipt] = await lived.learner.samples.accept([NewSample(text, label, **more)])  # type: ignore[arg-type]
    await lived.learner.learn_queued()
    return receipt.id


def golden_seats(lived: Lived) -> dict[str, bool]:
    """Golden samples on the panel, and whether they are pinned."""
    return {one.sample_id: one.pinned for one in lived.state.tasks["default"].evaluation.items if one.golden}


async def test_another_weight_is_learned_exactly(lived: Lived) -> None:
    first = (await lived.learner.samples.learned("default"))[0]
    second = await again(lived, first.text, first.label, weight=20.0)
    states = {one.id: one.state for one in await lived.learner.samples.get_many([first.id, second])}
    assert states == {first.id: SampleState.RETRACTED, second: SampleState.LEARNED}
    assert sum((await lived.learner.samples.label_counts("default")).values()) == 200
    await assert_exact(lived)


async def test_a_pin_reaches_the_panel(lived: Lived) -> None:
    first = (await lived.learner.samples.learned("default"))[0]
    second = await again(lived, first.text, first.label, pinned=True)
    seats = {one.sample_id: one.pinned for one in lived.state.tasks["default"].evaluation.items}
    assert seats[second]
    assert first.id not in seats
    await assert_exact(lived)


async def test_a_learned_sample_that_turns_golden_leaves_the_head_exactly_and_judges(lived: Lived) -> None:
    learner, first = lived.learner, (await lived.learner.samples.learned("default"))[0]
    gold = await again(lived, first.text, first.label, golden=True)
    old = await learner.samples.get(first.id)
    assert (old.state, (old.reason or "")[:22]) == (SampleState.RETRACTED, "its text is golden now")
    assert (await live(learner)).gate["forced"] == "retraction"
    await assert_exact(lived)
    await learner.parts.runner.refresh_golden()
    assert golden_seats(lived) == {gold: False}
    assert gold in {one.sample_id for one in (await lived.restarted()).tasks["default"].evaluation.items}
    await again(lived, first.text, first.label, golden=True, pinned=True)
    await learner.parts.runner.refresh_golden()
    assert golden_seats(lived) == {gold: True}
    await learner.samples.request_retraction(gold)
    await learner.parts.runner.refresh_golden()
    assert golden_seats(lived) == {}
    back = await again(lived, first.text, first.label)
    assert (await learner.samples.get(back)).state is SampleState.LEARNED
    await assert_exact(lived)


async def test_a_roll_back_does_not_bring_a_text_back_that_is_golden(lived: Lived) -> None:
    learner, first = lived.learner, (await lived.learner.samples.learned("default"))[0]
    await again(lived, first.text, first.label, golden=True)
    await learner.accept(labelled(5, seed=9))
    await learner.learn_queued()
    await learner.promote_again(1)
    await learner.learn_queued()
    assert (await learner.samples.get(first.id)).state is SampleState.RETRACTED
    await assert_exact(lived)


async def test_a_text_that_the_encoder_was_trained_on_judges_nothing(lived: Lived) -> None:
    first = (await lived.learner.samples.learned("default"))[0]
    lived.learner.runner._state = replace(lived.state, trained=frozenset({first.text_digest}))
    await again(lived, first.text, first.label, golden=True)
    await lived.learner.parts.runner.refresh_golden()
    assert golden_seats(lived) == {}
