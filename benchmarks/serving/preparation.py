"""What is served and asked: a home that has learned 77 classes, and texts of three lengths."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets import Labelled, one_of_each, present, read_phrasebank, read_split, shuffled, write_csv
from benchmarks.harness import Home
from pawl.artefacts.folders import FolderArtefactStore
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.settings import load_settings

_TEXTS = 400
_IMPORTED = 20  # texts of each class: a head's speed does not depend on how many it learned


def load_texts(data: Path, rng: random.Random) -> dict[str, list[str]]:
    """Texts of three lengths, shuffled. Raises `BenchmarkFailed` where a file is missing."""
    with present(data / "ag_news" / "test.csv").open(encoding="utf-8", newline="") as file:
        articles = [f"{title} {body}" for _, title, body in csv.reader(file)]
    _, test = read_split(data / "banking77")
    sentences = [row.text for row in read_phrasebank(data / "financial_phrasebank")]
    found = {"banking77": [row.text for row in test], "phrasebank": sentences, "ag_news": articles}
    return {name: rng.sample(texts, _TEXTS) for name, texts in found.items()}


def prepare(home: Home, train: Sequence[Labelled], rng: random.Random) -> Path:
    """Teaches a home 77 classes; the `encoder/` folder of its version."""
    by_class: dict[str, list[Labelled]] = {}
    for row in one_of_each(shuffled(train, rng)):
        by_class.setdefault(row.label, []).append(row)
    chosen = [row for rows in by_class.values() for row in rows[:_IMPORTED]]
    home.pawl("import", str(write_csv(home.path / "train.csv", chosen)))
    artefacts = FolderArtefactStore(load_settings(home=home.path).artefacts_path)
    return artefacts.path(max(artefacts.kept())) / ENCODER_FOLDER
