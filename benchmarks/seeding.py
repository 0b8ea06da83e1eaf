"""Fills a store without encoding every text: for measuring what depends on the number of samples alone.

A seeded text joins two real ones, `<A> <B>`, with the label of A; its embedding is what such a text's would roughly be,
a blend z = norm(a z_A + (1 - a) z_B + noise) with a uniform in [0.6, 0.95]. Samples and embeddings are written with the
service's own `SqlSampleStore`, so the learner meets an ordinary queue whose embeddings are known already.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from app.commands.console.terminal import progress_bar
from app.commands.home.stores import open_stores
from benchmarks.datasets import Labelled
from benchmarks.harness import BenchmarkFailed, Home
from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.samples import NewSample
from pawl.ports import Floats
from pawl.settings import load_settings

_REAL = 3000
_BATCH = 128
_CHUNK = 1000
_NOISE = 0.01


async def seed_store(home: Home, rows: Sequence[Labelled], count: int, rng: random.Random) -> None:
    """Queues `count` new samples with their embeddings in a home that has a version and where nothing runs.

    Raises `BenchmarkFailed` where there are too few rows to blend, or no version.
    """
    real = rows[:_REAL]
    if len(real) * (len(real) - 1) < 2 * count:
        raise BenchmarkFailed(f"{len(real)} texts are too few to blend {count} of them")
    settings = load_settings(home=home.path)
    async with open_stores(settings) as stores:
        live = await stores.ledger.live()
        if live is None:
            raise BenchmarkFailed("there is no version to seed samples for")
        folder = FolderArtefactStore(settings.artefacts_path).path(live.number) / ENCODER_FOLDER
        encoder = OnnxEncoder(folder, digest=live.encoder_digest)
        with progress_bar() as bar:
            parts = [real[start : start + _BATCH] for start in range(0, len(real), _BATCH)]
            z = np.concatenate(
                [
                    encoder.encode([row.text for row in part])
                    for part in bar.track(parts, description="encoding the texts to blend")
                ]
            )
            pairs = rng.sample(range(len(real) * (len(real) - 1)), count)
            generator = np.random.default_rng(rng.randrange(2**32))
            for start in bar.track(range(0, count, _CHUNK), description="seeding the store"):
                first, second = _pairs(pairs[start : start + _CHUNK], len(real))
                items = [
                    NewSample(text=f"{real[a].text} {real[b].text}", label=real[a].label, source="seeded")
                    for a, b in zip(first, second, strict=True)
                ]
                receipts = await stores.samples.accept(items)
                blends = dict(zip((one.id for one in receipts), _blend(z[first], z[second], generator), strict=True))
                await stores.samples.put_embeddings(encoder.digest, blends)


def _pairs(numbers: Sequence[int], size: int) -> tuple[list[int], list[int]]:
    """Ordered pairs of different rows, one for each number below size * (size - 1)."""
    first = [number // (size - 1) for number in numbers]
    second = [number % (size - 1) for number in numbers]
    return first, [b + (b >= a) for a, b in zip(first, second, strict=True)]


def _blend(one: Floats, other: Floats, generator: np.random.Generator) -> Floats:
    share = generator.uniform(0.6, 0.95, size=(len(one), 1))
    blend = share * one + (1.0 - share) * other + generator.normal(0.0, _NOISE, size=one.shape)
    unit: Floats = (blend / np.linalg.norm(blend, axis=1, keepdims=True)).astype(np.float32)
    return unit
