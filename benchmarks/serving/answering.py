"""What a running Pawl answers to test texts: how many rightly, and how many by words alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import numpy as np

from benchmarks.harness import BenchmarkFailed, Json
from benchmarks.learning.data import Split
from benchmarks.learning.metrics import to_text
from benchmarks.serving.preparation import TASKS
from pawl.domain.samples import DEFAULT_TASK

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Answered:
    """Of the texts of one split: the share right and the share by words, in per cent, and which are right."""

    accuracy: float
    by_words: float
    right: str

    def json(self) -> Json:
        """For the results."""
        return {"accuracy": self.accuracy, "by_words": self.by_words, "right": self.right}


def ask(url: str, split: Split, task: str = DEFAULT_TASK) -> Answered:
    """Asks every test text of a split through `url` (`/v1/predict`). Raises `BenchmarkFailed`."""
    found: list[Json] = []
    with httpx.Client(timeout=120.0) as client:
        for start in range(0, len(split.test), _AT_ONCE):
            texts = [row.text for row in split.test[start : start + _AT_ONCE]]
            response = client.post(url, json={"texts": texts, "task": task})
            if not response.is_success:
                raise BenchmarkFailed(f"{url} answered {response.status_code}: {response.text[:300]}")
            found += response.json()["predictions"]
    right = np.array([one["label"] == row.label for one, row in zip(found, split.test, strict=True)])
    words = np.array([one["by"] == "words" for one in found])
    return Answered(100.0 * float(right.mean()), 100.0 * float(words.mean()), to_text(right))


def ask_all(url: str, splits: Mapping[str, Split]) -> Json:
    """The same for each split, as the task of its name."""
    return {name: ask(url, split, TASKS.get(name, DEFAULT_TASK)).json() for name, split in splits.items()}
