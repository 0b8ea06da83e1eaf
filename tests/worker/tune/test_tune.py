"""The search for settings."""

from __future__ import annotations

import asyncio
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from pawl.domain.errors import InvalidInput, TrainingFailed, VersionNotFound
from pawl.domain.samples import Split
from pawl.settings import Settings, load_settings
from tests.worker.consolidation.world import World, labelled, open_world
from worker.consolidation.data.material import choose
from worker.consolidation.training.schedule import Evaluation
from worker.tune.report import environment, verdict
from worker.tune.search import SettingsSearch, search_space
from worker.tune.split import split_store
from worker.tune.trials import TrialRunner, open_trial_runner

Evaluated = Callable[[Evaluation], None]


async def _trial_runner(world: World) -> TrialRunner:
    split = await split_store(world.samples, world.ledger, world.settings)
    return await open_trial_runner(world.stores, split, world.settings)


def _selected(runner: TrialRunner, world: World) -> set[str]:
    selection = choose(runner.inputs, world.settings, runner.seed)
    return {c.text_digest for c in (*selection.new, *selection.replayed, *selection.validation)}


async def test_no_trial_sees_dev_held_out_or_golden_texts(world: World) -> None:
    runner = await _trial_runner(world)
    seen = _selected(runner, world)
    dev = {sample.text_digest for sample in runner.dev}
    golden = {sample.text_digest for sample in await world.samples.golden("default", 100)}
    learned = [s for task in ("default", "mood") for s in await world.samples.learned(task)]
    heldout = {s.text_digest for s in learned if s.split is Split.HELDOUT}
    assert len(dev) >= 50
    assert heldout
    assert golden
    assert not seen & (dev | golden | heldout)
    assert not dev & (golden | heldout)
    assert {sample.text_digest for sample in runner.heldout} == heldout, (
        "the heads know them, and lambda is chosen on them"
    )
    assert not runner.replayable


async def test_dev_is_new_to_the_encoder_and_what_it_knows_is_replayed(world: World) -> None:
    old = [s for task in ("default", "mood") for s in await world.samples.learned(task) if s.split is Split.TRAIN]
    await world.learn(labelled(400, seed=5), trained=tuple(s.id for s in old))
    runner = await _trial_runner(world)
    assert runner.replayable
    assert not {s.id for s in runner.dev} & {s.id for s in old}
    assert _selected(runner, world) & {s.text_digest for s in old}


async def test_too_little_to_compare_on_and_no_version_are_said(tmp_path: Path) -> None:
    world = await open_world(tmp_path / "home")
    with pytest.raises(VersionNotFound):
        await _trial_runner(world)
    await world.learn(labelled(60))
    with pytest.raises(InvalidInput, match="too few to compare settings on"):
        await _trial_runner(world)
    await world.engine.dispose()
    code = "import sys; from worker.tune.__main__ import main; print(main([]), 'torch' in sys.modules)"
    home = {**world.environment(), "PAWL_HOME": str(tmp_path / "home")}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], env=home, capture_output=True, text=True, check=False
    )
    assert done.stdout == "1 False\n", "it is said before torch is loaded"
    assert "(>= 250)" in done.stderr


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", "tune", *arguments]


async def test_the_command_recommends_settings_that_can_be_read_and_changes_nothing_else(world: World) -> None:
    before = world.contents()
    done = await asyncio.to_thread(
        subprocess.run, _command("--trials", "2"), env=world.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "encoder as it is" in done.stdout
    assert "present settings" in done.stdout
    assert world.contents() == before
    lines = (world.home / "recommended.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in given.items():
            patched.setenv(name, value)
        assert load_settings().epochs == float(given["PAWL_EPOCHS"])
    assert set(given) == {f"PAWL_{name.upper()}" for name in search_space(replayable=False)}


async def test_ctrl_c_keeps_what_was_found(world: World) -> None:
    process = await asyncio.create_subprocess_exec(
        *_command("--trials", "1000"), env=world.environment(), stdout=-1, stderr=-1, start_new_session=True
    )
    assert process.stderr is not None
    async with asyncio.timeout(120):
        while b"trial 0: complete" not in await process.stderr.readline():
            assert process.returncode is None
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"recommended.env" in out
    assert (world.home / "recommended.env").is_file()


def _search() -> SettingsSearch:
    return SettingsSearch(search_space(replayable=False), Settings(), seed=0)


def test_the_present_settings_come_first_and_the_best_trial_is_recommended() -> None:
    search = _search()

    def train(settings: Settings, evaluated: Evaluated) -> list[bool]:
        right = round(80 - 20 * abs(math.log(settings.learning_rate / 1.5e-4)))
        return [True] * right + [False] * (100 - right)

    for _ in range(25):
        search.step(train)
    first, best = search.trials[0], search.best
    assert first.values["learning_rate"] == Settings().learning_rate
    assert first.values["epochs"] == Settings().epochs
    assert first.values["adversarial"] == "fgm"
    assert first.values["l2_sp"] == 1e-6, "0 is not on a logarithmic scale: the nearest"
    assert best is not None
    rate = best.values["learning_rate"]
    assert isinstance(rate, float)
    assert 1e-4 < rate < 2.3e-4
    assert max(search.importances(), key=lambda name: search.importances()[name]) == "learning_rate"
    untouched = [True] * 30 + [False] * 70
    assert "McNemar p = " in verdict(search, untouched)
    assert "may be chance" not in verdict(search, untouched)
    text = environment(search, best, untouched)
    assert f"PAWL_LEARNING_RATE={rate:.4g}\n" in text
    assert "PAWL_EPOCHS=" in text
    assert "PAWL_ADVERSARIAL=off\n" in text or "PAWL_ADVERSARIAL=fgm\n" in text


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    search = _search()
    for right in (50, 52):
        search.step(lambda _s, _e, right=right: [True] * right + [False] * (100 - right))  # type: ignore[misc]  # bound
    assert search.best is not None
    assert search.best.number == 1
    assert "may be chance" in verdict(search, [False] * 100)


def test_a_trial_that_falls_behind_is_given_up_and_one_that_diverges_is_noted() -> None:
    search, finished = _search(), []

    def train(_: Settings, evaluated: Evaluated) -> list[bool]:
        level = 0.2 if len(search.trials) == 5 else 0.8
        for step in range(4):
            evaluated(Evaluation(step, level, 1.0))
        finished.append(len(search.trials))
        return [True] * 5

    def diverge(_: Settings, evaluated: Evaluated) -> list[bool]:
        raise TrainingFailed(problem="the loss is nan")

    for _ in range(6):
        search.step(train)
    search.step(diverge)
    assert finished == [0, 1, 2, 3, 4]
    assert search.trials[5].state == "given up early"
    assert "the loss is nan" in search.trials[6].state
    states = [trial.state for trial in search.study.trials]
    assert states[5:] == [optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL]
    assert search.best is not None


def test_nothing_is_recommended_when_no_trial_was_completed() -> None:
    assert "nothing is recommended" in verdict(_search(), [True])
