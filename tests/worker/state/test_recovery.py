"""A learner that starts again holds what the one before it held in memory, whatever it reads it from."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pawl.domain.versions import HeadName, VersionKind
from tests.direct_solve import direct_weights, relative_error
from tests.intents import labelled
from tests.learners import new_learner, opened
from tests.processes import LENIENT, TRAINED_SAMPLES, Installer
from tests.worker.lives import Lived, assert_same, weights_by_label
from worker.model.proposal import Hyperparameters
from worker.state.snapshots import pack
from worker.updates.step import Step


@pytest.fixture
async def lived(install: Installer) -> AsyncIterator[Lived]:
    """Two tasks, replaced and retracted labels, a new one, golden samples, another lambda; a snapshot half-way."""
    pawl = install.trained(**LENIENT)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        lived = Lived(pawl, engine, learner)
        fresh = iter(labelled(500, seed=2))
        await learner.runner.catch_up()
        await learner.accept([next(fresh) for _ in range(10)], golden=True)
        await learner.accept([next(fresh) for _ in range(40)])
        await learner.accept([(text, f"mood {label}") for text, label in labelled(30, seed=3)], task="mood")
        await learner.learn_queued()
        learner.parts.snapshots.write(pack(lived.state))
        old = await learner.samples.learned("default")
        await learner.accept([(old[0].text, "profit"), (old[1].text, "unheard of"), *(next(fresh) for _ in range(9))])
        for sample in old[2:6]:
            await learner.samples.request_retraction(sample.id)
        await learner.learn_queued()
        await _choose_lambda(lived, 3.0)
        await learner.accept([next(fresh) for _ in range(3)])
        await learner.learn_queued()
        await learner.parts.runner.refresh_golden()
        yield lived


async def _choose_lambda(lived: Lived, value: float) -> None:
    """As housekeeping does when the store has grown."""
    model = lived.state.tasks["default"]
    lambdas: dict[HeadName, float] = dict.fromkeys(model.heads, value)
    chosen = Hyperparameters(lambdas, model.stacking, 0.5, model.samples)
    proposal = model.propose_settings(chosen)
    step = Step(VersionKind.HEAD, "regularisation", {"default": proposal})
    version, _ = await lived.learner.runner.run(lived.state, step)
    assert version is not None


async def test_from_a_snapshot_and_the_ledger(lived: Lived) -> None:
    assert len(lived.snapshots) == 2
    assert_same(lived.state, await lived.restarted())


async def test_from_the_whole_store(lived: Lived) -> None:
    shutil.rmtree(lived.pawl.settings.snapshots_path)
    assert_same(lived.state, await lived.restarted())


async def test_from_a_snapshot_of_this_very_version(lived: Lived) -> None:
    lived.learner.parts.snapshots.write(pack(lived.state))
    assert_same(lived.state, await lived.restarted())


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_a_bit, tear, Path.unlink])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("how_many", [1, 2])
async def test_a_damaged_snapshot_is_passed_over(
    lived: Lived, damage: Callable[[Path], None], suffix: str, how_many: int
) -> None:
    for path in lived.snapshots[-how_many:]:
        damage(path.with_suffix(suffix))
    assert_same(lived.state, await lived.restarted())


@pytest.mark.parametrize("by", ["following", "snapshot", "rebuild"])
async def test_after_a_roll_back(lived: Lived, by: str) -> None:
    """Version 1's samples but for those retracted since, under version 1's lambda and temperature."""
    learner = lived.learner
    await learner.promote_again(1)
    if by == "rebuild":
        shutil.rmtree(lived.pawl.settings.snapshots_path)
    state = await learner.runner.catch_up() if by == "following" else await lived.restarted()
    assert state is not None
    first, learned = await learner.ledger.get(1), await learner.samples.learned("default")
    assert 0 < len(learned) < TRAINED_SAMPLES
    assert state.samples == len(learned)
    assert state.tasks["default"].temperature == first.heads["default"].temperature
    served = lived.pawl.offline(state.version)
    heads = served.heads["default"]
    assert heads.lexical is not None
    assert heads.lexical.stacking == state.tasks["default"].stacking
    for head, weights in {"semantic": heads.semantic.weights, "lexical": heads.lexical.weights}.items():
        name: HeadName = "lexical" if head == "lexical" else "semantic"
        regularisation = first.metrics["regularisation"]["default"][name]
        expected = direct_weights(served, learned, regularisation, head=name)
        assert relative_error(weights, expected) < 1e-5
        found = weights_by_label(state, "default", name)
        for column, label in enumerate(heads.labels):
            if label in found:
                assert relative_error(found[label], expected[:, column]) < 1e-5
