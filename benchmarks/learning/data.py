"""The data sets of the protocols, as they lie in the data folder. Nothing of them is copied into the project."""

from __future__ import annotations

import csv
import html
import json
import random
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from pathlib import Path
from typing import TypeVar

from benchmarks.datasets import Labelled, invented, one_of_each, present, read_phrasebank, read_split, shuffled
from benchmarks.harness import BenchmarkFailed
from pawl.domain.samples import digest_text

VALIDATION = "clinc150_validation"
SHOPPING, TAKEAWAY = "chinese_shopping", "chinese_takeaway"
_SHOPPING_TRAIN, _SHOPPING_TEST = 10_000, 5_000
_TAKEAWAY_TEST = 0.2
_EXCEL_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
_REUTERS_CHARACTERS = 1000
_REUTERS = re.compile(r"<REUTERS[^>]*NEWID=\"(\d+)\"[^>]*>(.*?)</REUTERS>", re.DOTALL)
_REUTERS_DATE = re.compile(r"(\d{1,2})-([A-Z]{3})-(\d{4})(?:\s+(\d{1,2}):(\d{2}):(\d{2}))?")
T = TypeVar("T")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True, slots=True)
class Split:
    """Training and test texts. No text is in both: where the source has such, the training row is left out."""

    name: str
    train: list[Labelled]
    test: list[Labelled]

    @property
    def labels(self) -> list[str]:
        """All labels, sorted."""
        return sorted({row.label for row in self.train})

    def part(self, classes: int, rng: random.Random) -> Split:
        """Only so many of the classes."""
        kept = set(rng.sample(self.labels, classes))
        parts = ([row for row in rows if row.label in kept] for rows in (self.train, self.test))
        return Split(f"{self.name}, {classes} classes", *parts)


@dataclass(frozen=True, slots=True)
class Event:
    """A labelled text and when it came."""

    at: datetime
    row: Labelled


def load_split(name: str, data: Path, seed: int = 0) -> Split:
    """`clinc150`, `banking77`, or `financial_phrasebank` (80/20, drawn with the seed). Raises `BenchmarkFailed`.

    `clinc150_validation` asks CLINC150's validation part instead of its test part: for choices.
    """
    if name in ("clinc150", VALIDATION):
        parts, asked = _json(data / "clinc150" / "data_full.json"), "val" if name == VALIDATION else "test"
        return _apart(name, *([Labelled(*row) for row in parts[part]] for part in ("train", asked)))
    if name == "banking77":
        return _apart(name, *read_split(data / "banking77"))
    rows = shuffled(one_of_each(read_phrasebank(data / "financial_phrasebank")), random.Random(seed))
    cut = round(0.8 * len(rows))
    return Split(name, rows[:cut], rows[cut:])


def load_reviews(data: Path) -> tuple[Split, Split]:
    """Chinese product reviews by product class and by sentiment: the same texts, two splits. Raises `BenchmarkFailed`.

    As the data folder's MANIFEST.md says: texts made unique, shuffled, the first 10,000 train, the next 5,000 test.
    """
    found: dict[str, tuple[str, str]] = {}
    path = present(data / SHOPPING / "online_shopping_10_cats.zip")
    with zipfile.ZipFile(path) as archive, archive.open("online_shopping_10_cats.csv") as file:
        for row in csv.DictReader(TextIOWrapper(file, "utf-8", newline="")):
            found.setdefault(row["review"], (row["cat"], row["label"]))
    found.pop("", None)
    rows = _dealt(list(found.items()))
    train, test = rows[:_SHOPPING_TRAIN], rows[_SHOPPING_TRAIN : _SHOPPING_TRAIN + _SHOPPING_TEST]

    def split(place: int, name: str) -> Split:
        parts = ([Labelled(text, labels[place]) for text, labels in part] for part in (train, test))
        return _apart(f"{SHOPPING}, {name}", *parts)

    return split(0, "product class"), split(1, "sentiment")


def load_takeaway(data: Path) -> Split:
    """Chinese reviews of delivered food by sentiment; the last fifth is asked. Raises `BenchmarkFailed`."""
    found: dict[str, str] = {}
    with present(data / TAKEAWAY / "waimai_10k.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["review"], row["label"])
    rows = _dealt([Labelled(*row) for row in found.items()])
    cut = round((1 - _TAKEAWAY_TEST) * len(rows))
    return _apart(f"{TAKEAWAY}, sentiment", rows[:cut], rows[cut:])


def _dealt(rows: list[T]) -> list[T]:
    """The rows after `random.Random(0).shuffle`, which is how MANIFEST.md draws the splits of B7."""
    random.Random(0).shuffle(rows)
    return rows


def load_out_of_scope(data: Path) -> list[str]:
    """CLINC150's queries that belong to none of its labels, of its test part. Raises `BenchmarkFailed`."""
    return [text for text, _ in _json(data / "clinc150" / "data_full.json")["oos_test"]]


def load_events(name: str, data: Path) -> list[Event]:
    """`us_airline_tweets` or `reuters21578`, by time. Raises `BenchmarkFailed`."""
    events = _tweets(data / "us_airline_tweets" / "Tweets.csv") if name == "us_airline_tweets" else _reuters(data)
    return sorted(events, key=lambda event: event.at)  # stable: equal times stay in the order of the file


def invented_split(labels: int, train: int, test: int, rng: random.Random) -> Split:
    """`train` and `test` invented texts of each label."""
    rows: dict[str, list[Labelled]] = {}
    for row in invented(labels, train + test, rng):
        rows.setdefault(row.label, []).append(row)
    parts = [row for own in rows.values() for row in own[:train]], [row for own in rows.values() for row in own[train:]]
    return Split("invented", *(shuffled(part, rng) for part in parts))


def invented_events(labels: int, each: int, rng: random.Random) -> list[Event]:
    """Invented texts, a minute apart; half of the labels come only in the second half."""
    rows = invented(labels, each, rng)
    late = set(sorted({row.label for row in rows})[labels // 2 :])
    ordered = sorted(rows, key=lambda row: rng.random() + (row.label in late))
    return [Event(_EXCEL_EPOCH + timedelta(minutes=minute), row) for minute, row in enumerate(ordered)]


def _apart(name: str, train: Sequence[Labelled], test: Sequence[Labelled]) -> Split:
    asked = {digest_text(row.text) for row in test}
    return Split(name, [row for row in one_of_each(train) if digest_text(row.text) not in asked], list(test))


def _json(path: Path) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = json.loads(present(path).read_text(encoding="utf-8"))
    return found


def _tweets(path: Path) -> Iterator[Event]:
    with present(path).open(encoding="mac_roman", newline="") as file:
        for row in csv.DictReader(file):
            at = _EXCEL_EPOCH + timedelta(days=float(row["tweet_created"]))
            yield Event(at, Labelled(row["text"], row["airline_sentiment"]))


def _reuters(data: Path) -> Iterator[Event]:
    """News with exactly one topic: title and body, the first characters of them."""
    path = present(data / "reuters21578" / "reuters21578_sgm.tar.xz")
    with tarfile.open(path, "r:xz") as archive:
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            file = archive.extractfile(member) if member.name.endswith(".sgm") else None
            if file is None:
                continue
            for _, news in _REUTERS.findall(file.read().decode("latin-1")):
                topics = re.findall(r"<D>([^<]+)</D>", _inside(news, "TOPICS"))
                text = " ".join(f"{_inside(news, 'TITLE')}. {_inside(news, 'BODY')}".split())
                if len(topics) == 1 and len(text) > 2:
                    yield Event(_moment(_inside(news, "DATE")), Labelled(text[:_REUTERS_CHARACTERS], topics[0]))


def _inside(news: str, tag: str) -> str:
    found = re.search(rf"<{tag}[^>]*>(.*?)</{tag}>", news, re.DOTALL)
    return html.unescape(found.group(1)) if found else ""


def _moment(text: str) -> datetime:
    """The date of a piece of news; an hour that cannot be (one has 605) counts as midnight."""
    found = _REUTERS_DATE.search(text)
    if found is None:
        raise BenchmarkFailed(f"a piece of news has the date {text!r}")
    day, month, year, hour, minute, second = found.groups(default="0")
    return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
