"""In which order the samples of a refused batch are tried."""

from __future__ import annotations

from itertools import islice

from app.core.domain.samples import NewSample
from tests.intents import labelled, texts
from tests.learners import new_learner, opened
from tests.processes import Installer
from worker.bisecting import least_opposed_first


async def test_what_the_head_contradicts_comes_last_and_the_unknown_before_it(install: Installer) -> None:
    pawl = install.trained()
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        await learner.learning.catch_up()
        state = learner.learning.state
        assert state is not None
        flipped = [(text, "profit") for text in islice(texts("card", seed=3), 5)]
        pairs = [*flipped, ("quite another matter", "unheard of"), *labelled(10, seed=4)]
        receipts = await learner.samples.accept([NewSample(text, label) for text, label in pairs])
        samples = await learner.samples.get_many([one.id for one in receipts])
        ordered = await least_opposed_first(state, learner.samples, samples)
    assert sorted(one.id for one in ordered) == sorted(one.id for one in samples)
    assert {one.text for one in ordered[-5:]} == {text for text, _ in flipped}
    assert ordered[-6].label == "unheard of"
