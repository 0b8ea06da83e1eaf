"""Two texts that differ only after what the encoder reads are not held against each other."""

from __future__ import annotations

from pathlib import Path

from pawl.domain.samples import SampleState
from pawl.domain.versions import Version
from tests.intents import texts
from tests.learners import Learner, new_learner, opened
from tests.processes import Installer

LONG = "my card has not arrived and i want to know why " * 30


async def _live(learner: Learner) -> Version:
    version = await learner.ledger.live()
    assert version is not None
    return version


async def test_two_texts_that_differ_only_after_the_cut_are_not_held_against_each_other(
    install: Installer, tmp_path: Path
) -> None:
    pawl = install.trained(quarantine_flow_floor=2, quarantine_flow_cap=2, quarantine_established=1)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        [first] = await learner.accept([(LONG + "one", "card")], source="a")
        await learner.learn_queued()
        others = [(LONG + name, "flight") for name in ("two", "three", "four", "five", "six")]
        ids = await learner.accept(others, source="b")
        await learner.learn_queued()
        found = {one.id: one for one in await learner.samples.get_many([first, *ids])}
        assert {one.state for one in found.values()} == {SampleState.LEARNED}, [one.reason for one in found.values()]
        assert {found[name].emphasis for name in ids} == {1.0}
        state = learner.runner.state
        assert state is not None
        assert state.alike == {first, *ids}
        seated = {item.sample_id for item in state.tasks["default"].evaluation.items}
        assert not seated & {first, *ids}
        read = (await _live(learner)).metrics["reading"]["default"]
        assert (read["texts"], read["truncated"], read["unknown_share"]) == (5, 5, 0.0)
        digest = (await _live(learner)).encoder_digest
        assert await learner.samples.cut_conflicts(digest) == {first, *ids}

        again = new_learner(pawl.settings, engine)
        reopened = await again.runner.catch_up()
        assert reopened is not None
        assert reopened.alike == {first, *ids}
        assert not {item.sample_id for item in reopened.tasks["default"].evaluation.items} & {first, *ids}
        short = await again.accept([(next(texts("card", seed=99)), "card")])
        await again.learn_queued()
        assert short[0] not in reopened.alike
