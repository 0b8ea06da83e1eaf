"""Which settings contradict what a home was made with, one by one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pawl.artefacts import FolderArtefactStore
from pawl.db.engine import connect
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import SettingsContradict
from pawl.settings import Settings
from pawl.versions.contradictions import (
    Contradiction,
    ServedVersion,
    fast_answers_planned,
    find_contradictions,
    refuse_contradictions,
)
from tests.processes import Installation
from tests.tiny_encoder import write_tiny_encoder


async def found(trained: Installation, **given: Any) -> dict[str, Contradiction]:
    """By setting: what is found where only these settings are given."""
    settings = Settings(home=trained.home, **given)
    engine = connect(settings.sql_url)
    try:
        ports = SqlVersionLedger(engine), FolderArtefactStore(settings.artefacts_path), SqlSampleStore(engine)
        return {each.setting: each for each in await find_contradictions(settings, *ports)}
    finally:
        await engine.dispose()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_prefix", "query: "),
        ("max_tokens", 31),
        ("pooled_layers", 5),
        ("random_features", 33),
        ("lexical_size", 128),
        ("seed", 7),
        ("heldout_fraction", 0.4),
        ("encoder_sha256", "0" * 64),
    ],
)
async def test_a_setting_that_asks_for_other_than_there_is_contradicts(
    trained_installation: Installation, name: str, value: Any
) -> None:
    told = await found(trained_installation, **{name: value})
    assert set(told) == {name}
    assert f"PAWL_{name.upper()}" in told[name].sentence
    assert str(value)[:12] in told[name].sentence
    assert not told[name].is_plan


async def test_what_is_not_given_asks_for_nothing_and_what_was_given_then_agrees(
    trained_installation: Installation,
) -> None:
    assert await found(trained_installation) == {}
    same = trained_installation.settings
    given = {name: getattr(same, name) for name in ("encoder", "max_tokens", "random_features", "seed")}
    assert await found(trained_installation, **given) == {}


async def test_weights_that_are_rounded_later_are_a_plan(trained_installation: Installation) -> None:
    told = await found(trained_installation, compression="int8")
    assert told["compression"].is_plan
    assert "The next consolidation brings it" in told["compression"].remedy


async def test_the_encoder_is_known_by_its_contents(trained_installation: Installation, tmp_path: Path) -> None:
    source = Path(trained_installation.settings.encoder)
    moved = shutil.copytree(source, tmp_path / "moved")
    assert await found(trained_installation, encoder=str(moved)) == {}
    write_tiny_encoder(moved, seed=5)
    told = await found(trained_installation, encoder=str(moved))
    assert f"asks for {moved}, version 1 serves {source}" in told["encoder"].sentence
    nowhere = await found(trained_installation, encoder=str(tmp_path / "nowhere"))
    assert "there is no such folder" in nowhere["encoder"].sentence
    offline = await found(trained_installation, encoder="somebody/some-encoder")
    assert "asks for somebody/some-encoder" in offline["encoder"].sentence


@pytest.mark.parametrize(("asked", "is_plan"), [(0.1, True), (0.0, False), ("off", False)])
def test_what_fast_answers_may_cost_is_a_plan_and_off_is_none(asked: Any, *, is_plan: bool) -> None:
    served = ServedVersion(12, None, None, {"default": 0.0})
    planned = fast_answers_planned(Settings(fast_answers_loss=asked), served)
    assert [each.is_plan for each in planned] == [True] * is_plan
    assert all("FAST_ANSWERS_LOSS asks for 0.1, version 12 was made for 0.0" in each.sentence for each in planned)
    assert fast_answers_planned(Settings(), ServedVersion(12, None, None, {"default": 0.5})) == []


async def test_all_are_told_at_once(trained_installation: Installation) -> None:
    settings = Settings(home=trained_installation.home, seed=7, random_features=33)
    engine = connect(settings.sql_url)
    ports = SqlVersionLedger(engine), FolderArtefactStore(settings.artefacts_path), SqlSampleStore(engine)
    try:
        with pytest.raises(SettingsContradict, match=r"(?s)PAWL_RANDOM_FEATURES.*PAWL_SEED"):
            await refuse_contradictions(settings, *ports)
    finally:
        await engine.dispose()
