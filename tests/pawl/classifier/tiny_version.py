"""A whole version with the tiny encoder and a random head, published through the real store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pawl.artefacts import FolderArtefactStore
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.lexical_head import LexicalHead, WordsAlone, kept_number
from pawl.classifier.novelty import LexicalNovelty, Novelty
from pawl.classifier.served_heads import ServedHeads
from pawl.classifier.stacking import Stacking
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE, Manifest
from pawl.domain.samples import digest_text
from pawl.domain.versions import VersionKind
from pawl.ports import VersionFolder

LABELS = {"default": ("card", "refund", "transfer", "other"), "tone": ("bad", "good")}


def tiny_files(
    encoder: tuple[Path, str],
    *,
    labels: Mapping[str, tuple[str, ...]] = LABELS,
    seed: int = 0,
    dimension: int = 32,
    number: int = 1,
    stacking: Stacking | None = None,
    threshold: float | None = None,
) -> tuple[Manifest, dict[str, Path | bytes]]:
    """A manifest and the files to publish with it; with a `stacking`, each task has a lexical head."""
    rng = np.random.default_rng(seed)
    folder, digest = encoder
    features = RandomFeatures.create(dimension, 64, seed)
    files: dict[str, Path | bytes] = {f"{ENCODER_FOLDER}/{path.name}": path for path in folder.iterdir()}
    files[FEATURES_FILE] = features.to_bytes()
    novelty = Novelty(np.eye(dimension, dtype=np.float32), np.linspace(-2, 2, 101, dtype=np.float32), 0.3)
    infos = {}
    for task, names in labels.items():
        weights = rng.standard_normal((features.width, len(names)), dtype=np.float32)
        offsets = np.zeros(len(names), np.float32) if stacking is None else rng.random(len(names), dtype=np.float32)
        lexical = None if stacking is None else lexical_head(rng, len(names), stacking, threshold)
        heads = ServedHeads(LinearHead(names, weights, offsets, 0.5), novelty, lexical)
        infos[task], packed = heads.packed(task)
        files |= packed
    return Manifest(number, number - 1 or None, VersionKind.HEAD, digest, infos), files


def lexical_head(
    rng: np.random.Generator, classes: int, stacking: Stacking, threshold: float | None, kept: Sequence[str] = ()
) -> LexicalHead:
    """A random one of 256 features that keeps its hands off the texts `kept`."""
    weights = rng.standard_normal((256, classes), dtype=np.float32)
    numbers = np.array(sorted(kept_number(digest_text(text)) for text in kept), dtype=np.uint64)
    rarity = 1 - rng.random(256, dtype=np.float32)
    novelty = LexicalNovelty(rarity, np.linspace(-3, 1, 101, dtype=np.float32))
    alone = WordsAlone(0.25, novelty, threshold, 0.4, 0.0, numbers)
    return LexicalHead(256, weights, stacking, alone)


def publish_tiny_version(
    root: Path, encoder: tuple[Path, str], *, number: int = 1, seed: int = 0, dimension: int = 32
) -> VersionFolder:
    """Publishes it as `number` in the store at `root`."""
    manifest, files = tiny_files(encoder, seed=seed, number=number, dimension=dimension)
    return FolderArtefactStore(root).publish(number, manifest, files)
