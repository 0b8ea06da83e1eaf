"""A first version made of one export takes over what was chosen for its heads; any other chooses anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.imports import ExportedCentre, ExportedHeads, NewImport
from pawl.domain.samples import NewSample, Origin
from tests.intents import labelled
from tests.processes import LENIENT, Installer
from worker.assembly import open_learner
from worker.state.chosen import exported_centre

_HEADS = ExportedHeads({"semantic": 7.5, "lexical": 2.5}, 1.5, 0.75, 0.25, 0.625)


@pytest.mark.parametrize("numbers", [(), (0.1, -1e-30, 3.0)])
def test_what_was_chosen_comes_back_from_json(numbers: tuple[float, ...]) -> None:
    exact = tuple(np.array(numbers, np.float32).tolist())
    heads = replace(_HEADS, centre=ExportedCentre("e", exact))
    assert ExportedHeads.from_json(json.loads(json.dumps(heads.to_json()))) == heads
    assert ExportedHeads.from_json(json.loads(json.dumps(_HEADS.to_json()))) == _HEADS


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        {},
        {"encoder": "e"},
        {"encoder": "e", "numbers": 7},
        {"encoder": "e", "numbers": "?"},
        {"encoder": "e", "numbers": "AAA="},
        {"encoder": "e", "numbers": "AADAfw=="},
    ],
)
def test_what_is_no_centre_is_told(wrong: Any) -> None:
    with pytest.raises(ValueError, match="centre"):
        ExportedHeads.from_json({**_HEADS.to_json(), "centre": wrong})


def test_the_centre_of_an_export_is_taken_over_where_all_samples_say_it_of_this_encoder() -> None:
    said, none = (replace(_HEADS, centre=ExportedCentre("e", numbers)) for numbers in ((0.5, 0.25), ()))
    found, without = exported_centre("e", 2, [said, said]), exported_centre("e", 2, [none])
    assert found is not None
    assert without is not None
    assert (found.tolist(), without.tolist()) == ([0.5, 0.25], [])
    others = [None, _HEADS, none, replace(_HEADS, centre=ExportedCentre("another", (0.5, 0.25)))]
    assert [exported_centre("e", 2, [said, other]) for other in others] == [None] * 4
    assert exported_centre("another", 2, [said]) is None
    assert exported_centre("e", 3, [said]) is None


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
