"""How every protocol is started: its options, its progress, its workplace."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.commands.console.terminal import progress_bar
from benchmarks.harness import RESULTS, ROOT, BenchmarkFailed, Json, commit, parser
from benchmarks.learning.embeddings import CACHE
from pawl.processes.logs import configure_logs

Advance = Callable[[str], None]
"""One more step of the work is done; what comes next."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line said. `first_seed` and the seeds after it are run. `commit` is that of the start,
    `encoders` where those with a name are.
    """

    name: str
    data: Path | None
    first_seed: int
    seeds: int
    quick: bool
    rows: str | None
    limit: int | None
    split: str | None
    only: str | None
    results: Path
    docs: Path
    cache: Path
    commit: str
    encoders: Mapping[str, str]

    @property
    def settings(self) -> Json:
        """For the results."""
        return {key: getattr(self, key) for key in ("data", "first_seed", "seeds", "quick", "rows", "limit")}

    @property
    def source(self) -> Path:
        """The data folder. Raises `BenchmarkFailed` where none was named or it is not there."""
        if self.data is None or not self.data.is_dir():
            raise BenchmarkFailed(f"--data: {self.data} is no folder (--quick needs none: it invents texts)")
        return self.data

    @property
    def range(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


def read_options(
    name: str,
    description: str | None,
    argv: Sequence[str] | None,
    *,
    limit: str = "",
    splits: Sequence[str] = (),
    parts: Sequence[str] = (),
) -> Given:
    """Reads the command line. `limit` is what `--limit` bounds; empty where it bounds nothing.

    `splits` are the data it may run on, where there is a choice: the first is what is measured, the others are for
    choices, and what comes of these is left in the temporary folder. `parts` are measured one after the other, and
    `--only` names one of them: what was measured of the others stays in the results.
    """
    options = parser(description)
    options.add_argument("--data", type=Path, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--seeds", type=int, default=5, help="how many seeds, from --seed on (default 5)")
    options.add_argument("--quick", action="store_true", help="invented texts and one seed: only shows that it runs")
    options.add_argument(
        "--rows",
        help="only these rows of the table, comma-separated; what was measured of others stays in the results",
    )
    options.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page and the plots")
    options.add_argument("--cache", type=Path, default=CACHE, help=f"embeddings that are kept (default {CACHE})")
    options.add_argument(
        "--encoder",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="where the encoder of the rows with this name is (`multilingual=FOLDER`); without it, found by its name",
    )
    if limit:
        options.add_argument("--limit", type=int, help=limit)
    if splits:
        options.add_argument("--split", choices=splits, default=splits[0], help=f"the data (default {splits[0]})")
    if parts:
        options.add_argument("--only", choices=parts, help="only this one; what was measured of others stays")
    found = options.parse_args(argv)
    if found.seeds < 1:
        options.error("--seeds must be at least 1")
    configure_logs("error")
    results, docs = found.results, found.docs
    split = getattr(found, "split", None)
    if found.quick or (splits and split != splits[0]):  # must not overwrite what was measured
        elsewhere = Path(tempfile.gettempdir()) / f"pawl-{'quick' if found.quick else split}"
        results = elsewhere if results == RESULTS else results
        docs = elsewhere if docs == ROOT / "docs" else docs
    return Given(
        name, found.data, found.seed, 1 if found.quick else found.seeds, found.quick, found.rows,
        getattr(found, "limit", None), split, getattr(found, "only", None), results, docs, _cache(found), commit(),
        dict(_named(options, one) for one in found.encoder),
    )  # fmt: skip


@contextmanager
def progress(total: int, what: str) -> Iterator[Advance]:
    """A progress bar over steps of the work."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)

        def advance(description: str) -> None:
            bar.update(task, advance=1, description=f"{what}: {description}")

        yield advance


def _named(options: argparse.ArgumentParser, one: str) -> tuple[str, str]:
    name, equals, source = one.partition("=")
    if not (name and equals and source):
        options.error(f"--encoder {one}: NAME=SOURCE is wanted")
    return name, source


def _cache(found: argparse.Namespace) -> Path:
    cache: Path = found.cache
    return Path(tempfile.gettempdir()) / "pawl-quick" / "embeddings" if found.quick and cache == CACHE else cache
