"""A whole version with the tiny encoder and a random head, published through the real store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pawl.artefacts import FolderArtefactStore
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE, Manifest, head_file, novelty_file
from pawl.domain.versions import HeadInfo, VersionKind
from pawl.ports import VersionFolder

LABELS = {"default": ("card", "refund", "transfer", "other"), "tone": ("bad", "good")}


def tiny_files(
    encoder: tuple[Path, str],
    *,
    labels: Mapping[str, tuple[str, ...]] = LABELS,
    seed: int = 0,
    dimension: int = 32,
    number: int = 1,
) -> tuple[Manifest, dict[str, Path | bytes]]:
    """A manifest and the files to publish with it."""
    rng = np.random.default_rng(seed)
    folder, digest = encoder
    features = RandomFeatures.create(dimension, 64, seed)
    files: dict[str, Path | bytes] = {f"{ENCODER_FOLDER}/{path.name}": path for path in folder.iterdir()}
    files[FEATURES_FILE] = features.to_bytes()
    novelty = Novelty(np.eye(dimension, dtype=np.float32), np.linspace(-2, 2, 101, dtype=np.float32), 0.3)
    heads = {}
    for task, names in labels.items():
        weights = rng.standard_normal((features.width, len(names)), dtype=np.float32)
        head = LinearHead(names, weights, np.zeros(len(names), np.float32), 0.5)
        files[head_file(task)] = head.to_bytes()
        files[novelty_file(task)] = novelty.to_bytes()
        heads[task] = HeadInfo(hashlib.sha256(head.to_bytes()).hexdigest(), names, 0.5)
    return Manifest(number, number - 1 or None, VersionKind.HEAD, digest, heads), files


def publish_tiny_version(
    root: Path, encoder: tuple[Path, str], *, number: int = 1, seed: int = 0, dimension: int = 32
) -> VersionFolder:
    """Publishes it as `number` in the store at `root`."""
    manifest, files = tiny_files(encoder, seed=seed, number=number, dimension=dimension)
    return FolderArtefactStore(root).publish(number, manifest, files)
