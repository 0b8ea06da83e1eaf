"""A first version made of one export takes over what was chosen for its heads; any other chooses anew."""

from __future__ import annotations

import pytest

from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.imports import ExportedHeads, NewImport
from pawl.domain.samples import NewSample, Origin
from tests.intents import labelled
from tests.processes import LENIENT, Installer
from worker.assembly import open_learner

_HEADS = ExportedHeads({"semantic": 7.5, "lexical": 2.5}, 1.5, 0.75, 0.25, 0.625)


async def _ignore(left: int) -> None:
    """Progress nobody looks at."""


@pytest.mark.parametrize("alone", [True, False])
async def test_what_was_chosen_and_emphasis_of_an_export_are_taken_over(install: Installer, alone: bool) -> None:
    pawl = install.empty(**LENIENT)
    engine = connect(pawl.settings.sql_url)
    try:
        await upgrade(engine)
        store = SqlSampleStore(engine)
        one = NewImport("im_export", "default", "all.jsonl", 60, None, _HEADS)
        brought = [
            NewSample(text, label, origin=Origin.IMPORT, import_id=one.id, emphasis=2.5 if n < 5 else 1.0)
            for n, (text, label) in enumerate(labelled(60))
        ]
        others = [] if alone else [NewSample("something else that was sent", brought[0].label)]
        await store.accept([*brought, *others], imports=[one])
        async with open_learner(pawl.settings) as loop:
            await loop.drain(_ignore)
        live = await SqlVersionLedger(engine).live()
        assert live is not None
        lexical = live.heads["default"].lexical
        assert lexical is not None
        shares = (lexical.words, lexical.semantic, lexical.lexical)
        lambdas = live.metrics["regularisation"]["default"]
        assert (ExportedHeads(lambdas, *shares, live.heads["default"].temperature) == _HEADS) is alone
        learned = await store.learned("default")
        assert [sample.emphasis for sample in learned[:6]] == [2.5] * 5 + [1.0]
    finally:
        await engine.dispose()
