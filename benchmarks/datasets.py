"""Labelled texts: read from the data folder, or invented. Nothing of the data is copied into the project."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from app.commands.data.files.formats import opened, read_contents
from app.commands.data.files.records import Reading
from app.commands.data.files.rows import BadRow, read_rows
from benchmarks.harness import BenchmarkFailed
from pawl.domain.samples import digest_text

_LONGEST = 2**20
_OPENINGS = ("please", "i want to", "how do i", "can you", "i need to", "help me", "why can i not", "where do i")
_VERBS = ("block", "order", "cancel", "check", "change", "find", "pay", "report", "track", "stop")
_NOUNS = ("card", "transfer", "account", "loan", "refund", "statement", "password", "flight", "meeting", "salary")
_ENDINGS = ("today", "tomorrow", "this week", "online", "by phone", "again", "now", "for my company", "in the app")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its label."""

    text: str
    label: str


def present(path: Path) -> Path:
    """The path of a file of the data folder. Raises `BenchmarkFailed` where it is missing."""
    if not path.is_file():
        raise BenchmarkFailed(f"{path} is missing (see the data folder's MANIFEST.md)")
    return path


def read_labelled(path: Path) -> list[Labelled]:
    """The rows of a CSV file with a header, read as `pawl import` reads them. Raises `BenchmarkFailed`."""
    with opened(present(path)) as source:
        rows = list(read_rows(read_contents(source, Reading(), _LONGEST), None, None, _LONGEST))
    bad = [row for row in rows if isinstance(row, BadRow)]
    if bad:
        raise BenchmarkFailed(f"{path} line {bad[0].line}: {bad[0].problem}")
    return [Labelled(row.text, row.label) for row in rows if not isinstance(row, BadRow)]


def read_split(folder: Path) -> tuple[list[Labelled], list[Labelled]]:
    """`train.csv` and `test.csv` of a folder."""
    return read_labelled(folder / "train.csv"), read_labelled(folder / "test.csv")


def read_phrasebank(path: Path) -> list[Labelled]:
    """FinancialPhraseBank: `sentence@label`, Latin-1. A folder means its `Sentences_50Agree.txt`."""
    file = path / "Sentences_50Agree.txt" if path.is_dir() else path
    rows = []
    for line in present(file).read_text(encoding="latin-1").split("\n"):
        text, _, label = line.strip().rpartition("@")
        if text.strip():
            rows.append(Labelled(text.strip(), label.strip()))
    return rows


def write_csv(path: Path, rows: Iterable[Labelled]) -> Path:
    """Writes a file that `pawl import` takes; returns its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((row.text, row.label) for row in rows)
    return path


def one_of_each(rows: Sequence[Labelled]) -> list[Labelled]:
    """Without repeats: of rows that Pawl takes for the same text, the last one, which is the one that counts."""
    return list({digest_text(row.text): row for row in rows}.values())


def shuffled(rows: Sequence[Labelled], rng: random.Random) -> list[Labelled]:
    """A copy in random order."""
    return rng.sample(rows, len(rows))


def invented(labels: int, each: int, rng: random.Random) -> list[Labelled]:
    """`each` requests to a support desk for each of up to 100 labels (`order card`), in random order.

    Up to 72 are plain sentences; more get an order number.
    """
    rows = []
    for verb, noun in rng.sample(list(product(_VERBS, _NOUNS)), labels):
        frames = rng.sample(list(product(_OPENINGS, _ENDINGS)), len(_OPENINGS) * len(_ENDINGS))
        for number in range(each):
            opening, ending = frames[number % len(frames)]
            text = f"{opening} {verb} my {noun} {ending}"
            if number >= len(frames):
                text += f", order {rng.randrange(10**6):06d}{number:04d}"
            rows.append(Labelled(text, f"{verb}_{noun}"))
    return shuffled(rows, rng)
