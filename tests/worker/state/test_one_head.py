"""A home without lexical heads: what there was before there were two."""

from __future__ import annotations

from pawl.db.migrate import upgrade
from tests.direct_solve import direct_weights, relative_error
from tests.intents import labelled
from tests.learners import new_learner, opened
from tests.processes import LENIENT, Installer
from tests.worker.lives import assert_same, live
from worker.assembly import open_learner
from worker.state.snapshots import pack


async def _ignore(left: int) -> None:
    """Progress nobody looks at."""


async def test_a_home_without_lexical_heads_learns_restarts_and_names_none(install: Installer) -> None:
    pawl = install.empty(lexical_size=0, **LENIENT)
    async with opened(pawl) as engine:
        await upgrade(engine)
        learner = new_learner(pawl.settings, engine)
        await learner.accept(labelled(60))
        async with open_learner(pawl.settings) as loop:
            await loop.drain(_ignore)
        state = await learner.runner.catch_up()
        assert state is not None
        assert set(state.widths) == {"semantic"}
        await learner.accept([("a wholly new text about a card", "card")])
        await learner.learn_queued()
        version, served = await live(learner), pawl.offline((await live(learner)).number)
        assert version.heads["default"].lexical is None
        assert served.heads["default"].lexical is None
        assert version.metrics["words"] == {}
        regularisation = version.metrics["regularisation"]["default"]
        assert set(regularisation) == {"semantic"}
        expected = direct_weights(served, await learner.samples.learned("default"), regularisation["semantic"])
        assert relative_error(served.heads["default"].semantic.weights, expected) < 1e-5
        learner.parts.snapshots.write(pack(learner.runner.live))
        again = await new_learner(pawl.settings, engine).runner.catch_up()
        assert again is not None
        assert_same(learner.runner.live, again)
