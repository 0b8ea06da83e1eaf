"""A home with a live version on the tiny encoder, learned samples in two tasks, and golden ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.encoders.spec import encoder_digest
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.classifier.served_heads import ServedHeads
from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE, Manifest
from pawl.domain.samples import NewSample, Sample
from pawl.domain.versions import LedgerChange, NewVersion, VersionKind
from pawl.settings import Settings
from tests.tiny_encoder import WORDS, exported_tiny_encoder
from worker.consolidation.data.inputs import TrainingStores
from worker.consolidation.job import Job

REPOSITORY = Path(__file__).parents[3]
HELDOUT = 0.25
_HEADS = {"default": ("even", "odd"), "mood": ("bad", "good")}


@dataclass
class World:
    """One home; `options` are settings by name, the same for this process and for children.

    `encoder` is the exported folder of the encoder that its versions have, of dimension 32.
    """

    home: Path
    engine: AsyncEngine
    options: dict[str, str] = field(default_factory=dict)
    encoder: Path = field(default_factory=lambda: exported_tiny_encoder()[0])

    @property
    def samples(self) -> SqlSampleStore:
        return SqlSampleStore(self.engine, heldout_fraction=HELDOUT)

    @property
    def ledger(self) -> SqlVersionLedger:
        return SqlVersionLedger(self.engine)

    @property
    def artefacts(self) -> FolderArtefactStore:
        return FolderArtefactStore(self.settings.artefacts_path)

    @property
    def stores(self) -> TrainingStores:
        return TrainingStores(self.samples, self.ledger, self.artefacts)

    @property
    def settings(self) -> Settings:
        return Settings(**{"home": self.home, **self.options})  # type: ignore[arg-type]  # pydantic parses the strings

    async def learn(self, items: list[NewSample], *, trained: tuple[str, ...] = ()) -> list[Sample]:
        """Stores the samples and promotes a version that learned them; `trained`: its encoder saw these."""
        receipts = await self.samples.accept(items)
        ids = tuple(receipt.id for receipt, item in zip(receipts, items, strict=True) if not item.golden)
        await self.promote(LedgerChange(learned=ids, trained=trained))
        return await self.samples.get_many([receipt.id for receipt in receipts])

    async def promote(self, change: LedgerChange, *, encoder: str | None = None) -> int:
        """Writes and promotes a version with heads of zeros; `encoder` is a digest that its row names instead."""
        folder, digest = self.encoder, encoder_digest(self.encoder)
        number, live = await self.ledger.next_number(), await self.ledger.live()
        parent = None if live is None else live.number
        kind = VersionKind.CONSOLIDATION if change.trained else VersionKind.HEAD
        features = RandomFeatures.create(32, 8, seed=0)
        novelty = Novelty(np.eye(32, dtype=np.float32), np.linspace(-1, 1, 101, dtype=np.float32), 0.3)
        weights, offsets = np.zeros((features.width, 2), np.float32), np.zeros(2, np.float32)
        heads = {
            task: ServedHeads(LinearHead(labels, weights, offsets, 0.1), novelty) for task, labels in _HEADS.items()
        }
        files: dict[str, Path | bytes] = {f"{ENCODER_FOLDER}/{path.name}": path for path in folder.iterdir()}
        files[FEATURES_FILE] = features.to_bytes()
        infos = {}
        for task, each in heads.items():
            infos[task], packed = each.packed(task)
            files |= packed
        self.artefacts.publish(number, Manifest(number, parent, kind, digest, infos), files)
        version = NewVersion(number, parent, kind, "test", encoder or digest, infos, "0" * 64, 1)
        return (await self.ledger.promote(version, change)).number

    async def write_job(
        self, folder: Path, *, watermark: int = 10**9, seed: int = 3, parent: int | None = None
    ) -> Path:
        """A job for the live version."""
        live = await self.ledger.live()
        assert live is not None
        job = Job(version=live.number, trigger="test", watermark=watermark, seed=seed)
        return await asyncio.to_thread(_write_job, folder, job, parent)

    def environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("PAWL_")}
        given = {f"PAWL_{name.upper()}": value for name, value in self.options.items()}
        return {**mine, "PAWL_HOME": str(self.home), "PYTHONPATH": str(REPOSITORY), **given}

    def start(self, job: Path, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        """The real child; `before` is a command that takes the child's command as its arguments."""
        return subprocess.Popen(
            [*before, sys.executable, "-m", "worker.consolidation", str(job)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def contents(self) -> tuple[str, list[tuple[str, str]]]:
        """All rows of the database and all artefacts with their digests: what a consolidation must not touch."""
        with sqlite3.connect(self.home / "pawl.db") as connection:
            dump = "\n".join(connection.iterdump())
        files = sorted(path for path in self.settings.artefacts_path.rglob("*") if path.is_file())
        return dump, [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def labelled(count: int, *, seed: int = 0) -> list[NewSample]:
    """Texts of task `default` with the class of one of their words; every third has a label in `mood` as well."""
    rng = np.random.default_rng(seed)
    telling, filler = WORDS[:20], WORDS[20:]
    items: list[NewSample] = []
    for number in range(count):
        label = int(rng.integers(0, 2))
        words = [str(rng.choice(telling[label::2])), *rng.choice(filler, int(rng.integers(2, 8))).tolist()]
        text = " ".join([*words, f"n{seed}x{number}"])
        items.append(NewSample(text, ("even", "odd")[label]))
        if number % 3 == 0:
            items.append(NewSample(text, ("bad", "good")[label], task="mood", create_task=True))
    return items


def _write_job(folder: Path, job: Job, parent: int | None) -> Path:
    """As a person writes it where `parent` is None: it names no parent then."""
    folder.mkdir()
    values = job.model_dump(mode="json", exclude={"parent"}) | ({} if parent is None else {"parent": parent})
    (folder / "job.json").write_text(json.dumps(values))
    return folder


async def open_world(home: Path, **options: str) -> World:
    """An empty home with its tables; the caller disposes of `engine`."""
    await asyncio.to_thread(home.mkdir)
    chosen = {"threads": "1", "device": "cpu", "heldout_fraction": str(HELDOUT), "learning_rate": "1e-3", **options}
    world = World(home, connect(f"sqlite+aiosqlite:///{home / 'pawl.db'}"), chosen)
    await upgrade(world.engine)
    return world
