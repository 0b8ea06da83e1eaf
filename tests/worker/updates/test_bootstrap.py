"""The first version, made by the learner's own loop from what people really send first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.samples import NewSample, Origin, Sample
from pawl.domain.versions import Version
from tests.intents import Labelled, labelled
from tests.processes import LENIENT, Installation, Installer
from worker.assembly import open_learner


async def drained(pawl: Installation, pairs: Sequence[Labelled]) -> tuple[Version | None, list[Sample], int]:
    """The live version, what is learned, and how much still waits, after all that can be learned was."""
    engine = connect(pawl.settings.sql_url)
    try:
        await upgrade(engine)
        store = SqlSampleStore(engine)
        await store.accept([NewSample(text, label, origin=Origin.IMPORT) for text, label in pairs])
        async with open_learner(pawl.settings) as loop:
            await loop.drain(_ignore)
        live = await SqlVersionLedger(engine).live()
        return live, await store.learned("default"), (await store.backlog()).length
    finally:
        await engine.dispose()


async def _ignore(left: int) -> None:
    """Progress nobody looks at."""


async def test_a_file_sorted_by_label_makes_a_first_version_of_every_label(
    install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows of the first label than a first version takes."""
    monkeypatch.setattr("worker.updates.bootstrap.MOST_SAMPLES", 40)
    pairs = sorted(labelled(150), key=lambda pair: pair[1])
    many = [pair for pair in labelled(400) if pair[1] == pairs[0][1]][:60]
    pairs = [*many, *(pair for pair in pairs if pair[1] != pairs[0][1])]
    _, learned, waiting = await drained(install.empty(**LENIENT, bulk_batch=32), pairs)
    first = Counter(one.label for one in learned if one.learned_in_version == 1)
    assert first == dict.fromkeys({label for _, label in pairs}, 8)
    assert (len(learned), waiting) == (len(pairs), 0)


async def test_one_text_with_two_labels_makes_no_version_of_a_single_class(install: Installer) -> None:
    pairs = [("the same text", "card"), *(pair for pair in labelled(100) if pair[1] == "transfer")]
    pairs.append(("the same text", "transfer"))
    pawl = install.empty(**LENIENT)
    live, learned, _ = await drained(pawl, pairs)
    assert (live, learned) == (None, [])
    live, _, waiting = await drained(pawl, [("my card is blocked", "card")])
    assert live is not None
    assert sorted(live.labels["default"]) == ["card", "transfer"]
    assert waiting == 0
