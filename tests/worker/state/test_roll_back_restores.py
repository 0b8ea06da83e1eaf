"""After a roll-back a text has the label again that the target had for it, also when a worse one had replaced it."""

from __future__ import annotations

from pawl.domain.samples import SampleState
from tests.worker.lives import Lived, assert_exact, live


async def test_a_replaced_label_is_learned_again_after_its_replacement_was_rolled_back(lived: Lived) -> None:
    learner = lived.learner
    known = (await learner.samples.learned("default"))[0]
    before = (await live(learner)).number
    wrong = next(name for name in (await live(learner)).labels["default"] if name != known.label)
    [worse] = await learner.accept([(known.text, wrong)])
    await learner.learn_queued()
    assert (await learner.samples.get(known.id)).reason == f"replaced by {worse}"
    await learner.promote_again(before, reason="a wrong label")
    await learner.learn_queued()
    was, bad = await learner.samples.get(known.id), await learner.samples.get(worse)
    assert (was.state, was.learned_in_version) == (SampleState.LEARNED, (await live(learner)).number)
    assert bad.state is SampleState.QUARANTINED
    await assert_exact(lived)
