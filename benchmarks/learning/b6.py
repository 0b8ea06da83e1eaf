"""B6: a production stream on Banking77: new classes, prior shifts, late feedback, wrong labels, attacks.

    python -m benchmarks.learning.b6 --data ../shared/data --seeds 5

What comes is described in `benchmarks/learning/production.py`. Feedback that has come within 10 requests is one batch.
A new class counts as learned once 70 % of its test texts are answered rightly; the labels it took are the right ones
that had come for it by then. The victim of an attack has, as its level, its mean recall on its test texts over the 200
requests before. `pawl_ceiling` is the same learner on the same requests with right labels that come at once.

`--split clinc150_validation` runs on 77 classes of CLINC150's training part, drawn with each seed, and asks its
validation part: what is chosen here is chosen there.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.harness import Json, goal, machine, start
from benchmarks.learning.data import VALIDATION, Split, invented_split, load_split
from benchmarks.learning.merging import merged_in_groups
from benchmarks.learning.paired import not_worse, paired
from benchmarks.learning.pawl_learner import Pawl, Workshop, workshop
from benchmarks.learning.prequential import serve
from benchmarks.learning.production import BATCH, VARIANTS, Size, plan
from benchmarks.learning.program import Given, progress, read_options
from benchmarks.learning.report import Table, plot, publish, spread
from benchmarks.learning.rows import WITHOUT_CONSOLIDATION, Row, chosen

_CEILING = replace(chosen("pawl")[0], name="pawl_ceiling", title="Pawl, right labels at once (ceiling)")
_ALL = (*WITHOUT_CONSOLIDATION, _CEILING)
_ROWS = "ngram,semantic,pawl,pawl_ceiling"
_CLASSES = 77
_COLUMNS = (
    "stream", "row", "prequential %", "accuracy at the end %", "new classes at 70 % recall", "labels it took, median",
    "victim's largest drop", "requests > 10 below", "clean candidates refused %", "quarantined %: clean", "wrong",
    "attack",
)  # fmt: skip
_NOTES = (
    "Accuracy at the end is the mean recall over the test texts of all classes. Labels it took: of all new classes, "
    "those never learned counting as infinity. `stream` has 10 % random wrong labels and a burst of 80 targeted ones, "
    "`drip` only 1 % targeted ones, `pair_flip` 20 % that name each class's partner. The ceiling is that of all three."
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    given = read_options(
        "b6", __doc__, argv, limit="requests in a stream (default 6000)", splits=("banking77", VALIDATION)
    )
    before = machine()
    size, split_of = _data(given)
    rows = chosen(given.rows or _ROWS, _ALL)
    with workshop(given.cache, given.encoders) as shop:
        for seed in given.range:
            split = split_of(seed)
            shop.prepare((row.encoder for row in rows), (row.text for row in (*split.train, *split.test)))
        results = asyncio.run(_run_all(rows, shop, split_of, size, given))
    sizes: Json = {"size": {name: getattr(size, name) for name in Size.__slots__}}
    results = merged_in_groups(given, sizes, "variants", results)
    results = {variant: paired(found, size.requests) for variant, found in results.items()}
    _plot(given, results, size)
    found = sizes | {"variants": results, "goals": goals(results)}
    heading = f"B6: production stream, {size.requests} requests, {split_of(given.first_seed).name}"
    lines = [_line(variant, one) for variant, rows in results.items() for one in rows.values()]
    everything = [one for rows in results.values() for one in rows.values()]
    publish(given, heading, [Table(heading, _COLUMNS, lines)], found, before, everything, _NOTES)


def _data(given: Given) -> tuple[Size, Callable[[int], Split]]:
    """How large a stream is, and the texts of each seed's."""
    if given.quick:
        invented = invented_split(8, 30, 6, random.Random(0))
        return Size(120, 5, 20, 8), lambda _seed: invented
    if given.split == VALIDATION:  # 100 texts a class: fewer requests, and a burst that leaves its class some
        found = load_split(VALIDATION, given.source)
        return Size(given.limit or 5000, burst=60), lambda seed: found.part(_CLASSES, random.Random(seed))
    banking = load_split("banking77", given.source)
    return Size(given.limit or Size().requests), lambda _seed: banking


async def _run_all(
    rows: Sequence[Row], shop: Workshop, split_of: Callable[[int], Split], size: Size, given: Given
) -> Json:
    variants = {row.name: ("stream",) if row is _CEILING else VARIANTS for row in rows}
    results: Json = {v: {} for v in VARIANTS}
    total = sum(map(len, variants.values())) * given.seeds * -(-size.requests // BATCH)
    with progress(total, given.name) as advance:
        for seed in given.range:
            split = split_of(seed)
            for row in rows:
                for variant in variants[row.name]:
                    stream = plan(split, variant, size, seed)
                    learner = row.make(shop, seed)
                    found = await serve(learner, stream.at_its_best() if row is _CEILING else stream, split, advance)
                    runs = results[variant].setdefault(row.name, {"title": row.title, "runs": []})["runs"]
                    runs.append({"seed": seed} | found)
                    if isinstance(learner, Pawl):
                        await learner.close()
    return results


def goals(results: Json) -> list[Json]:
    """Design section 8, on the mean over seeds (the attack: on the worst seed)."""
    runs = results["stream"].get("pawl", {}).get("runs")
    if not runs:
        return []
    correct = statistics.fmean(run["prequential"] for run in runs)
    reached = statistics.fmean(run["new_classes_reached"] for run in runs)
    needed = statistics.median(run["labels_needed_median"] or float("inf") for run in runs)
    refused = statistics.fmean(run["clean_refused"] or 0.0 for run in runs)
    below = max(run["requests_below"] for run in runs)
    even = [one for variant, rows in results.items() for one in not_worse(variant, rows)]
    return [
        *even,
        goal(f"prequential {correct:.2f} %, wanted >= 80 %", met=correct >= 80.0),
        goal(
            f"{reached:.1f} of {runs[0]['new_classes']} new classes learned, wanted >= 34 of 37",
            met=reached >= 34 / 37 * runs[0]["new_classes"],
        ),
        goal(f"median of labels a new class took: {needed:g}, wanted <= 8", met=needed <= 8),
        goal(f"the victim is > 10 points below for {below} requests at most, wanted <= 500", met=below <= 500),
        goal(f"{refused:.2f} % of clean candidates refused, wanted <= 5 %", met=refused <= 5.0),
    ]


def _line(variant: str, one: Json) -> list[str | None]:
    runs = one["runs"]
    held = [{f"quarantined {kind}": share for kind, share in run.get("quarantined", {}).items()} for run in runs]
    flat = [run | more for run, more in zip(runs, held, strict=True)]

    def cell(key: str) -> str | None:
        values = [run[key] for run in flat if run.get(key) is not None]
        return spread(values) if values else None

    needed = [run["labels_needed_median"] for run in runs]
    median = f"{statistics.median(needed):g}" if None not in needed else "never"
    kinds = ("quarantined clean", "quarantined wrong", "quarantined attack")
    reached = f"{cell('new_classes_reached')} of {runs[0]['new_classes']}"
    return [
        variant, one["title"], cell("prequential"), cell("final_accuracy"), reached, median,
        cell("victim_max_drop"), cell("requests_below"), cell("clean_refused"), *(cell(kind) for kind in kinds),
    ]  # fmt: skip


def _plot(given: Given, results: Json, size: Size) -> None:
    twelfths = [(part + 1) * size.requests / 12 for part in range(12)]
    series = {}
    for variant, rows in results.items():
        for one in rows.values():
            columns = zip(*(run["by_twelfth"] for run in one["runs"]), strict=True)
            series[f"{variant}: {one['title']}"] = (twelfths, [statistics.fmean(column) for column in columns])
    plot(given, series, "request", "prequential accuracy, %", "answers right in each twelfth of the stream")


if __name__ == "__main__":
    sys.exit(start(main))
