"""On what methods of consolidation are compared: which samples are trained on and which are asked."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.datasets import Labelled, shuffled
from benchmarks.learning.data import VALIDATION, load_split
from pawl.domain.samples import Origin, Sample, SampleState, digest_text, split_of
from pawl.settings import Settings

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_HELDOUT = float(Settings.model_fields["heldout_fraction"].default)
_DEV_SHARE = 0.3  # of Banking77's training texts, which has no validation part


@dataclass(frozen=True, slots=True)
class Case:
    """What every row is given. `old` were trained on by the encoder in `folder`, but for the held-out ones; `asked`
    compares the rows.
    """

    folder: Path
    new: tuple[Sample, ...]
    old: tuple[Sample, ...]
    asked: tuple[Sample, ...]


def samples_of(rows: Sequence[Labelled]) -> tuple[Sample, ...]:
    """Rows as the store would hold them."""
    return tuple(
        Sample(
            id=f"fb_{digest_text(row.text)[:16]}",
            seq=number,
            task="default",
            text=row.text,
            text_digest=digest_text(row.text),
            label=row.label,
            weight=1.0,
            source=None,
            origin=Origin.IMPORT,
            prediction_id=None,
            served_version=None,
            served_label=None,
            split=split_of(digest_text(row.text), _HELDOUT),
            pinned=False,
            state=SampleState.LEARNED,
            reason=None,
            learned_in_version=1,
            retract_requested=False,
            created_at=_NOW,
            updated_at=_NOW,
        )
        for number, row in enumerate(rows)
    )


def phrasebank(data: Path, folder: Path, seed: int, *, test: bool, texts: int | None = None) -> Case:
    """B5's split of this seed: its 80 % divided into what is known (or `texts` of it) and dev, or all of them and the
    20 %.
    """
    split = load_split("financial_phrasebank", data, seed)
    train, asked = split.train, split.test
    if not test:
        asked, train = train[: len(train) // 5], train[len(train) // 5 :]
    return Case(folder, samples_of(train[:texts]), (), samples_of(asked))


@dataclass(frozen=True, slots=True)
class TwoSteps:
    """Samples of half of the classes, which an encoder is consolidated on first, of the other half, and `asked`."""

    first: tuple[Sample, ...]
    second: tuple[Sample, ...]
    asked: tuple[Sample, ...]

    def before(self, folder: Path) -> Case:
        """The first of the two steps, from the encoder in `folder`."""
        known = {sample.label for sample in self.first}
        return Case(folder, self.first, (), tuple(sample for sample in self.asked if sample.label in known))


def two_steps(name: str, data: Path, seed: int, texts: int) -> TwoSteps:
    """`clinc150` (asks its validation part) or `banking77` (asks a part of its training texts): so many texts to train
    on, equally many of each class. Raises `BenchmarkFailed` where a file is missing.
    """
    rng = random.Random(seed)
    split = load_split(VALIDATION if name == "clinc150" else name, data)
    train, asked = split.train, split.test
    if name != "clinc150":
        rows = shuffled(train, rng)
        cut = round(_DEV_SHARE * len(rows))
        asked, train = rows[:cut], rows[cut:]
    by_class: defaultdict[str, list[Labelled]] = defaultdict(list)
    for row in train:
        by_class[row.label].append(row)
    names = rng.sample(sorted(by_class), len(by_class))
    each = max(2, texts // len(names))
    chosen = {label: samples_of(rng.sample(by_class[label], min(each, len(by_class[label])))) for label in names}
    half = len(names) // 2
    first, second = ([s for label in part for s in chosen[label]] for part in (names[:half], names[half:]))
    return TwoSteps(tuple(first), tuple(second), samples_of(asked))
