"""B3: time to learn. All classes but one are known; labels of that one come one at a time, k = 1, 2, 5, 10, 20.

    python -m benchmarks.learning.b3 --data ../shared/data --seeds 5

Everything is imported once for each seed. Then, for some classes drawn with the seed, one after the other: all samples
of the class are retracted (a sample leaves the head as exactly as it came; lambda and temperature stay), its labels
come one at a time in random order, and at last the rest of them, so that the next class finds everything known again.
Learners that cannot forget are taught anew for each class. Recall of the class and accuracy on all others, any label
allowed as the answer, are on the test texts.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon

from benchmarks.datasets import Labelled, shuffled
from benchmarks.harness import Json, goal, machine, start
from benchmarks.learning.answers import Learner, Questions
from benchmarks.learning.data import Split, invented_split, load_split
from benchmarks.learning.merging import merged_in_groups
from benchmarks.learning.pawl_learner import Pawl, Workshop, workshop
from benchmarks.learning.program import Advance, Given, progress, read_options
from benchmarks.learning.report import Table, plot, publish, spread
from benchmarks.learning.rows import WITHOUT_CONSOLIDATION, Row, chosen
from pawl.domain.samples import SampleState

_LABELS = (1, 2, 5, 10, 20)
_QUICK_LABELS = (1, 2, 5)
_ROWS = "class_mean,semantic,pawl"
_CLASSES = 10
_COLUMNS = ("data", "row", "k", "recall of the new class %", "change on all others, points", "labels refused %")
_NOTES = "One run is the mean over the classes of one seed. `0` labels: the class is not known, its recall is 0."


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    given = read_options("b3", __doc__, argv, limit=f"new classes for each seed (default {_CLASSES})")
    before = machine()
    quick = [invented_split(5, 12, 6, random.Random(0))]
    splits = quick if given.quick else [load_split(name, given.source) for name in ("banking77", "clinc150")]
    classes = 2 if given.quick else given.limit or _CLASSES
    rows = chosen(given.rows or _ROWS, WITHOUT_CONSOLIDATION)
    with workshop(given.cache, given.encoders) as shop:
        texts = [row.text for split in splits for row in (*split.train, *split.test)]
        shop.prepare((row.encoder for row in rows), texts)
        results = asyncio.run(_run_all(rows, shop, splits, classes, given))
    sizes: Json = {"classes_each_seed": classes}
    results = merged_in_groups(given, sizes, "data", results)
    curves = {
        f"{name}: {one['title']}": (one["k"], [_mean(one, "recall", k) for k in range(len(one["k"]))])
        for name, found in results.items()
        for one in found.values()
    }
    heading = "B3: labels until a new class is known"
    plot(given, curves, "labels of the new class", "its recall, %", "all other classes known")
    lines = [line for name, found in results.items() for one in found.values() for line in _lines(name, one)]
    found = sizes | {"data": results, "goals": goals(results)}
    everything = [one for rows in results.values() for one in rows.values()]
    publish(given, heading, [Table(heading, _COLUMNS, lines)], found, before, everything, _NOTES)


async def _run_all(
    rows: Sequence[Row], shop: Workshop, splits: Sequence[Split], classes: int, given: Given
) -> dict[str, Json]:
    ks = _QUICK_LABELS if given.quick else _LABELS
    results: dict[str, Json] = {}
    with progress(len(rows) * len(splits) * given.seeds * classes, given.name) as advance:
        for split in splits:
            results[split.name] = {row.name: {"title": row.title, "k": list(ks), "runs": []} for row in rows}
            for seed in given.range:
                new = random.Random(seed).sample(split.labels, classes)
                for row in rows:
                    found = await _run(row, shop, split, new, ks, seed, advance)
                    results[split.name][row.name]["runs"].append({"seed": seed, "classes": found})
    return results


async def _run(
    row: Row, shop: Workshop, split: Split, new: Sequence[str], ks: Sequence[int], seed: int, advance: Advance
) -> list[Json]:
    """One learner, one seed: every new class in turn."""
    rng, questions = random.Random(seed), Questions(split.test)
    learner = row.make(shop, seed)
    if isinstance(learner, Pawl):
        await learner.learn(shuffled(split.train, rng))
        await learner.rest()
    found = []
    for label in new:
        own = shuffled([one for one in split.train if one.label == label], rng)
        if isinstance(learner, Pawl):
            learned = await learner.samples.learned("default", 0, len(split.train))
            await learner.retract([sample.id for sample in learned if sample.label == label])
        else:
            learner = row.make(shop, seed)
            await learner.learn([one for one in split.train if one.label != label])
        found.append(await _teach(learner, label, own, questions, ks))
        if isinstance(learner, Pawl):
            await learner.learn(own)  # those that are known already are not stored again
        advance(f"{split.name}, {row.title}, seed {seed}")
    if isinstance(learner, Pawl):
        await learner.close()
    return found


async def _teach(
    learner: Learner, label: str, own: Sequence[Labelled], questions: Questions, ks: Sequence[int]
) -> Json:
    """Labels one at a time; what the class and the others came to at each k."""
    is_new = np.array([row.label == label for row in questions.rows])

    async def ask() -> tuple[float, float]:
        right = (await learner.scores(questions)).right(questions.rows)
        return 100.0 * float(right[is_new].mean()), 100.0 * float(right[~is_new].mean())

    _, before = await ask()
    found: Json = {"label": label, "recall": [], "change": [], "refused": []}
    refused = 0
    for count, row in enumerate(own[: max(ks)], start=1):
        if isinstance(learner, Pawl):
            [sample] = await learner.samples.get_many(await learner.teach(learner.lessons([row])))
            refused += sample.state is not SampleState.LEARNED
        else:
            await learner.learn([row])
        if count in ks:
            recall, others = await ask()
            found["recall"].append(recall)
            found["change"].append(others - before)
            found["refused"].append(100.0 * refused / count)
    return found


def goals(results: dict[str, Json]) -> list[Json]:
    """Design section 8."""
    found = []
    for name, rows in results.items():
        one = rows.get("pawl")
        for k, wanted in ((5, 70.0), (10, 85.0)) if one is not None else ():
            if one is not None and k in one["k"]:
                recall = _mean(one, "recall", one["k"].index(k))
                found.append(
                    goal(f"{name}: recall {recall:.1f} % after {k} labels, wanted >= {wanted} %", met=recall >= wanted)
                )
        if one is not None:
            found += _not_worse(name, rows)
            loss = -min(_mean(one, "change", k) for k in range(len(one["k"])))
            found.append(goal(f"{name}: the others lose {loss:.2f} points, wanted <= 0.3", met=loss <= 0.3))
    return found


def _not_worse(name: str, rows: Json) -> list[Json]:
    """Both heads against the semantic one: Wilcoxon's signed ranks of the recalls of the same new classes."""
    means = {
        row: {
            (run["seed"], found["label"]): statistics.fmean(found["recall"])
            for run in rows.get(row, {"runs": []})["runs"]
            for found in run["classes"]
        }
        for row in ("pawl", "semantic")
    }
    both = sorted(means["pawl"].keys() & means["semantic"].keys())
    changes = [means["pawl"][one] - means["semantic"][one] for one in both]
    if not any(changes):
        return []
    p = float(wilcoxon(changes, alternative="less").pvalue)
    told = (
        f"recall {statistics.fmean(changes):+.2f} points against semantic over {len(both)} classes, p of worse {p:.2g}"
    )
    return [goal(f"{name}, pawl: {told}, wanted not worse", met=p >= 0.05)]


def _by_seed(one: Json, key: str, position: int) -> list[float]:
    runs = [[found[key][position] for found in run["classes"] if len(found[key]) > position] for run in one["runs"]]
    return [statistics.fmean(run) for run in runs if run]


def _mean(one: Json, key: str, position: int) -> float:
    return statistics.fmean(_by_seed(one, key, position))


def _lines(name: str, one: Json) -> list[list[str | int]]:
    keys = ("recall", "change", "refused")
    return [
        [name, one["title"], k, *(spread(_by_seed(one, key, position)) for key in keys)]
        for position, k in enumerate(one["k"])
    ]


if __name__ == "__main__":
    sys.exit(start(main))
