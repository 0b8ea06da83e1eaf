"""What one correction asks of the stores: the cores it takes are those that answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from pawl.classifier.features import RandomFeatures
from tests.intents import labelled
from tests.learners import Fuse, new_learner
from tests.worker.lives import Lived, assert_exact


class Watch(Fuse):
    """Notes every step and never burns."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def step(self, where: str) -> None:
        self.steps.append(where)


async def test_an_embedding_is_read_and_written_once(lived: Lived) -> None:
    """Screen, probation and head all want it."""
    watch = Watch()
    learner = new_learner(lived.pawl.settings, lived.engine, watch)
    await learner.runner.catch_up()
    for pair in labelled(3, seed=9):
        await learner.accept([pair], served_label="another", served_version=1)
        watch.steps.clear()
        await learner.learn_queued()
        assert watch.steps.count("before get_embeddings") == 1
        assert watch.steps.count("before put_embeddings") == 1
    await assert_exact(lived, learner)


async def test_features_are_packed_for_the_first_version_and_linked_for_the_next(
    lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[RandomFeatures] = []
    pack = RandomFeatures.to_bytes

    def noted(features: RandomFeatures) -> bytes:
        packed.append(features)
        return pack(features)

    monkeypatch.setattr(RandomFeatures, "to_bytes", noted)
    for pair in labelled(3, seed=9):
        await lived.learner.accept([pair])
        await lived.learner.learn_queued()
    assert len(packed) == 1
    newest = max(lived.learner.artefacts.kept())
    files = [lived.learner.artefacts.path(number) / "features.safetensors" for number in (newest - 1, newest)]
    assert files[0].stat().st_ino == files[1].stat().st_ino


async def test_features_that_were_damaged_on_disk_are_not_passed_on(lived: Lived) -> None:
    learner, pairs = lived.learner, labelled(2, seed=9)

    async def learned(pair: tuple[str, str]) -> tuple[str, Path]:
        await learner.accept([pair])
        await learner.learn_queued()
        version = max(learner.artefacts.kept())
        file = learner.artefacts.path(version) / "features.safetensors"
        return learner.artefacts.open(version).manifest.files[file.name], file

    digest, file = await learned(pairs[0])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    assert (await learned(pairs[1]))[0] == digest
