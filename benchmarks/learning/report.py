"""What a protocol leaves behind: a table on stdout, a section of `docs/benchmarks.md`, JSON, a plot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.harness import Json, save, show
from benchmarks.learning.merging import origin
from benchmarks.learning.metrics import mean_and_deviation
from benchmarks.learning.program import Given

mpl.use("Agg")
PAGE = "benchmarks.md"
_TITLE = """# Learning quality, measured

Each section is written by the program it names (`python -m benchmarks.learning.b1 --data ../shared/data`); what is
measured and how is in `docs/design.md` section 8 and in the program's `--help`. Single runs with their commits, and the
settings and machine of the latest, are in `benchmarks/results/learning_*.json`. Mean +- standard deviation over seeds.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; numbers are given as they are, `None` is left empty."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def show(self) -> None:
        """On stdout."""
        show(self.title, self.columns, [["" if value is None else value for value in row] for row in self.rows])

    def markdown(self) -> str:
        """As Markdown."""
        lines = [
            f"{self.title}",
            "",
            "| " + " | ".join(self.columns) + " |",
            "|" + "---|" + "---:|" * (len(self.columns) - 1),
        ]
        lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in self.rows]
        return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """`mean +- deviation`, the mean alone for a single value."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ± {deviation:.2f}"


def publish(
    given: Given,
    heading: str,
    tables: Sequence[Table],
    results: Json,
    before: Json,
    rows: Iterable[Json],
    notes: str = "",
) -> None:
    """Shows the tables, writes the JSON and this protocol's section of the page. `rows` are those of all tables."""
    for table in tables:
        table.show()
    save(f"learning_{given.name}", given.settings, results, before, given.results)
    made_by = f"`python -m benchmarks.learning.{given.name}`, {origin(rows)}"
    text = "\n\n".join(filter(None, [f"## {heading}", made_by, *(table.markdown() for table in tables), notes]))
    if (given.docs / "plots" / f"{given.name}.svg").is_file():
        text += f"\n\n![{heading}](plots/{given.name}.svg)"
    write_section(given.docs / PAGE, given.name, text)


def write_section(page: Path, name: str, text: str) -> None:
    """Puts a section between its two markers; sections are kept in the order of their names."""
    page.parent.mkdir(parents=True, exist_ok=True)
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    sections = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", old, re.DOTALL))
    sections[name] = text
    parts = [f"<!-- {key} -->\n{sections[key]}\n<!-- /{key} -->" for key in sorted(sections)]
    page.write_text("\n".join([_TITLE, *(f"{part}\n" for part in parts)]), encoding="utf-8")


def plot(
    given: Given, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, title: str
) -> None:
    """Lines (x values, y values) by name, into `docs/plots/<name>.svg`."""
    from matplotlib import pyplot as plt

    folder = given.docs / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = given.name  # the same data give the same file
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    for name, (xs, ys) in series.items():
        axes.plot(xs, ys, label=name, linewidth=1.4, marker="." if len(xs) <= 30 else None)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2, frameon=False)  # covers no line
    figure.tight_layout()
    figure.savefig(folder / f"{given.name}.svg", metadata={"Date": None})
    plt.close(figure)


def bars(
    folder: Path, name: str, groups: Sequence[str], heights: Mapping[str, Sequence[float]], y: str, title: str = ""
) -> None:
    """Groups of bars, one bar of each name in a group, into `<folder>/<name>.svg`."""
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = name  # the same data give the same file
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    width = 0.8 / len(heights)
    for place, (label, values) in enumerate(heights.items()):
        at = [group + (place - (len(heights) - 1) / 2) * width for group in range(len(groups))]
        axes.bar_label(axes.bar(at, values, width, label=label), fmt="%.0f", fontsize=6)
    axes.set(ylabel=y, title=title)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=3, frameon=False)
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
