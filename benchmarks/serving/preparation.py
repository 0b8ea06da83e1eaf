"""What is served and asked: a home with a task for each length of text, and test texts of each.

Texts are of the test parts, which no home has learned: words would answer training texts too easily.
"""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.datasets import Labelled, one_of_each, present, read_phrasebank, read_split, shuffled, write_csv
from benchmarks.harness import Home
from benchmarks.learning.data import Split
from pawl.artefacts.folders import FolderArtefactStore
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.samples import DEFAULT_TASK
from pawl.settings import load_settings

_TEXTS = 1000
_TRAIN = 3000  # sentences and articles that are learned; all of Banking77 is
_OF_EACH = 20

TASKS = {"banking77": DEFAULT_TASK, "phrasebank": "phrasebank", "ag_news": "ag_news"}
"""The task of each length of text; the first one's labels have no task of their own."""


def load_splits(data: Path, rng: random.Random) -> dict[str, Split]:
    """Banking77's own split, and FinancialPhraseBank and AG News dealt; 1,000 texts of each are asked.

    Raises `BenchmarkFailed` where a file is missing.
    """
    with present(data / "ag_news" / "test.csv").open(encoding="utf-8", newline="") as file:
        articles = [Labelled(f"{title} {body}", topic) for topic, title, body in csv.reader(file)]
    train, test = read_split(data / "banking77")
    found = {"banking77": Split("banking77", one_of_each(train), rng.sample(test, _TEXTS))}
    sentences = read_phrasebank(data / "financial_phrasebank")
    for name, rows in (("phrasebank", sentences), ("ag_news", articles)):
        dealt = shuffled(one_of_each(rows), rng)
        found[name] = Split(name, dealt[:_TRAIN], dealt[_TRAIN : _TRAIN + _TEXTS])
    return found


def load_texts(data: Path, rng: random.Random) -> dict[str, list[str]]:
    """400 test texts of each of three lengths. Raises `BenchmarkFailed` where a file is missing."""
    return {name: [row.text for row in split.test[:400]] for name, split in load_splits(data, rng).items()}


def teach(home: Home, splits: Mapping[str, Split]) -> Path:
    """Teaches a home a task for each split (`TASKS`), all their training texts; its version's `encoder/` folder."""
    for name, split in splits.items():
        _import(home, split.train[1:], TASKS.get(name, DEFAULT_TASK))
    return _encoder(home)


def with_loss(home: Home, folder: Path, splits: Mapping[str, Split], loss: str) -> Home:
    """A copy of a home whose newest version was made with another `PAWL_FAST_ANSWERS_LOSS`.

    How much words may answer is chosen with each version: the copy learns one text more of each task.
    """
    shutil.copytree(home.path, folder, ignore=shutil.ignore_patterns("*.sock"))
    copied = Home(folder, {**home.settings, "PAWL_FAST_ANSWERS_LOSS": loss})
    for name, split in splits.items():
        _import(copied, split.train[:1], TASKS.get(name, DEFAULT_TASK))
    return copied


def prepare(home: Home, train: Sequence[Labelled], rng: random.Random) -> Path:
    """Teaches a home twenty texts of each class; its version's `encoder/` folder."""
    by_class: dict[str, list[Labelled]] = {}
    for row in one_of_each(shuffled(train, rng)):
        by_class.setdefault(row.label, []).append(row)
    _import(home, [row for rows in by_class.values() for row in rows[:_OF_EACH]], DEFAULT_TASK)
    return _encoder(home)


def _import(home: Home, rows: Sequence[Labelled], task: str) -> None:
    file = write_csv(home.path / f"{task}.csv", rows)
    # A sample may be left for review by the screening; that is no reason not to measure.
    home.pawl("import", str(file), "--task", task, "--create-task", "--accept", "benchmark")


def _encoder(home: Home) -> Path:
    artefacts = FolderArtefactStore(load_settings(home=home.path).artefacts_path)
    return artefacts.path(max(artefacts.kept())) / ENCODER_FOLDER
