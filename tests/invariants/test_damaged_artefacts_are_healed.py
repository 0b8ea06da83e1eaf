"""A damaged artefact is detected, named, and healed: from another copy, else from SQL, else an older one serves."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pawl.artefacts.folders import FolderArtefactStore
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.samples import NewSample
from tests.intents import items, labelled
from tests.invariants.test_5_a_failure_leaves_the_old_version_serving import flip_a_bit
from tests.load import predicting
from tests.polling import eventually
from tests.processes import LENIENT, PATIENCE, Installation, Installer, Stores, until_ready, until_settled

TEXTS = [text for text, _ in labelled(4, seed=5)]
FEATURES = "features.safetensors"
ENCODER = "encoder/model.onnx"
HEAD = "heads/default.safetensors"


def rot(path: Path) -> None:
    """A bit flips, and nothing of the file's times or size says so."""
    status = path.stat()
    flip_a_bit(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def versions(pawl: Installation, more: int) -> None:
    """That many further versions by a real learner, which ends."""
    async with pawl.stores() as stores:
        for number in range(more):
            await stores.samples.accept([NewSample(*labelled(1, seed=70 + number)[0])])
            drain = pawl.start_worker("--drain")
            assert drain.wait() == 0, drain.output()


@pytest.mark.parametrize("damage", [flip_a_bit, rot, Path.unlink])
def test_a_damaged_file_is_healed_from_a_copy_in_all_versions_that_share_it(install: Installer, damage: Any) -> None:
    pawl = install.trained()
    spares = [pawl.settings.encoders_path]
    writer = FolderArtefactStore(pawl.settings.artefacts_path, spares)
    one = writer.open(1)
    for number in (2, 3):
        manifest = replace(one.manifest, version=number)
        writer.publish(number, manifest, {name: one.path / name for name in one.manifest.files})
    damage(writer.path(1) / ENCODER)
    for store in (writer, FolderArtefactStore(pawl.settings.artefacts_path, spares)):
        assert store.open(1).number == 1
    assert [FolderArtefactStore(pawl.settings.artefacts_path).open(number).number for number in (1, 2, 3)] == [1, 2, 3]
    inodes = {(writer.path(number) / ENCODER).stat().st_ino for number in (1, 2, 3)}
    assert len(inodes) == 1, "they share it again"


def test_without_a_copy_it_is_named_and_left_alone(install: Installer) -> None:
    pawl = install.trained()
    store = FolderArtefactStore(pawl.settings.artefacts_path)
    flip_a_bit(store.path(1) / ENCODER)
    with pytest.raises(ArtefactCorrupt, match=ENCODER):
        store.open(1)


async def test_a_restart_of_worker_and_app_on_a_damaged_encoder_with_a_copy_ends_well(
    install: Installer, redis_url: str
) -> None:
    pawl = install.trained(redis_url=redis_url, **LENIENT)
    rot(pawl.artefacts.path(1) / ENCODER)
    pawl.start_app()
    pawl.start_worker()
    async with pawl.client() as client:
        assert await until_ready(client) == 1
        await _corrected(client)
    assert FolderArtefactStore(pawl.settings.artefacts_path).open(1).number == 1


@pytest.mark.parametrize("name", [HEAD, FEATURES, "manifest.json", ENCODER])
async def test_what_has_no_copy_is_rebuilt_from_sql_and_all_that_was_learned_is_there(
    install: Installer, redis_url: str, name: str
) -> None:
    pawl = install.trained(redis_url=redis_url, **LENIENT)
    if name == ENCODER:
        shutil.rmtree(pawl.settings.encoders_path)  # the base is exported again, and all is embedded again
    flip_a_bit(pawl.artefacts.path(1) / name)
    pawl.start_app()
    pawl.start_worker()
    async with pawl.client() as client, pawl.stores() as stores:
        assert await until_ready(client) == 2
        [damaged] = await _events(stores, "artefact_damaged")
        assert damaged["version"] == 1
        assert Path(name).name in damaged["problem"]
        [remade] = await eventually(lambda: _events(stores, "artefact_remade"), PATIENCE, every=0.05)
        assert (remade["version"], remade["instead_of"]) == (2, 1)
        assert len(await stores.learned()) == 200
        report = (await client.get("/v1/versions/2")).json()
        assert report["gate"]["forced"] == "damaged files"
        await _corrected(client)


async def test_else_the_newest_whole_version_serves_and_the_operator_is_told(
    install: Installer, redis_url: str
) -> None:
    pawl = install.trained(redis_url=redis_url, **LENIENT)
    await versions(pawl, 1)
    flip_a_bit(pawl.artefacts.path(2) / HEAD)
    pawl.start_app()  # and no learner that could rebuild it
    async with pawl.client() as client, pawl.stores() as stores:
        assert await until_ready(client) == 1
        model = (await client.get("/v1/model")).json()
        assert model["version"] == 1
        assert "version 2 could not be loaded" in model["version_problem"]
        [told] = await eventually(lambda: _events(stores, "serving_an_older_version"), PATIENCE, every=0.05)
        assert (told["version"], told["instead_of"]) == (1, 2)
        pawl.start_worker()
        await eventually(lambda: _serves(client, 3), PATIENCE, every=0.1)
        assert (await client.get("/v1/model")).json()["version_problem"] is None


async def test_the_app_that_has_it_in_memory_goes_on_and_no_version_passes_the_damage_on(
    install: Installer, redis_url: str
) -> None:
    pawl = install.trained(redis_url=redis_url, **LENIENT)
    pawl.start_app()
    pawl.start_worker()
    async with pawl.client() as client:
        assert await until_ready(client) == 1
        await _corrected(client)
        async with predicting(client, TEXTS, clients=2) as load:
            flip_a_bit(pawl.artefacts.path(1) / ENCODER)  # the inode of every version
            version = await _corrected(client, seed=31)
            await eventually(lambda: version in load.versions, PATIENCE, every=0.05)
        assert load.failures == []
    store = FolderArtefactStore(pawl.settings.artefacts_path)
    assert store.open(version).number == version


async def _corrected(client: httpx.AsyncClient, seed: int = 30) -> int:
    """A correction is learned; by which version."""
    [sent] = (await client.post("/v1/feedback", json=items(labelled(1, seed=seed)))).json()["items"]
    settled = await until_settled(client, sent["id"])
    assert settled["state"] == "learned", settled
    return int(settled["learned_in_version"])


async def _events(stores: Stores, type: str) -> list[dict[str, Any]]:
    return [event.payload for event in await stores.ledger.events(0, 1000) if event.type == type]


async def _serves(client: httpx.AsyncClient, number: int) -> bool:
    return bool((await client.get("/v1/model")).json()["version"] == number)
