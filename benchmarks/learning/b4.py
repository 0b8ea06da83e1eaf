"""B4: dated streams, prequential with label delay: predict, score, and learn the label at least 100 events later.

    python -m benchmarks.learning.b4 --data ../shared/data --seeds 1
    python -m benchmarks.learning.b4 --data ../shared/data --rows consolidated --seeds 1    # an hour on two cores
    python -m benchmarks.learning.b4 --data ../shared/data --only reuters21578    # one of the two streams

US airline tweets (sentiment, by `tweet_created`) and Reuters-21578 (news with exactly one topic, any topic, by DATE;
title and the first characters of the body, 1,000 in all). The first 1,000 events are imported; from then on, after
each 100 events, the labels of the 100 before them are learned as one batch. `frozen` is the
same learner as it was after the import. The n-gram learner has no seed and runs once. `consolidated` trains the encoder
after the import, which is what it is frozen as then, and again whenever 3,000 more labels were learned; its trainings
take no time in the stream, whose labels come hours and days apart.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from benchmarks.harness import BenchmarkFailed, Json, goal, machine, start
from benchmarks.learning.answers import Bools, Questions
from benchmarks.learning.data import Event, invented_events, load_events
from benchmarks.learning.merging import merged_in_groups
from benchmarks.learning.metrics import to_text
from benchmarks.learning.paired import not_worse, paired
from benchmarks.learning.pawl_learner import Pawl, Workshop, workshop
from benchmarks.learning.program import Advance, Given, progress, read_options
from benchmarks.learning.report import Table, plot, publish, spread
from benchmarks.learning.rows import WITHOUT_CONSOLIDATION, Row, chosen

_STREAMS = ("us_airline_tweets", "reuters21578")
_ROWS = "ngram,semantic,pawl"
_GOALS = {"us_airline_tweets": 83.5, "reuters21578": 94.0}
_FIRST, _BATCH, _WINDOW = 1000, 100, 500
_TRAIN_AFTER = 3000
_TRAINED = replace(
    chosen("consolidated")[0], title=f"Pawl, consolidated after the import and every {_TRAIN_AFTER:,} labels"
)
_ALL = (*WITHOUT_CONSOLIDATION, _TRAINED)
_NOTES = (
    "Deciles are tenths of the events after the import. Lowest against frozen: the smallest difference to the frozen "
    "learner over any 500 events in a row."
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    limit = "only so many events of each stream, the first ones"
    given = read_options("b4", __doc__, argv, limit=limit, parts=_STREAMS)
    before = machine()
    first, batch = (30, 10) if given.quick else (_FIRST, _BATCH)
    if given.quick:
        streams = {"invented": invented_events(6, 20, random.Random(0))}
    else:
        streams = {name: load_events(name, given.source)[: given.limit] for name in _STREAMS}
    short = [name for name, events in streams.items() if len(events) < first + 10]
    if short:
        raise BenchmarkFailed(f"there are too few events in {short}: {first} are imported")
    rows = chosen(given.rows or _ROWS, _ALL)
    with workshop(given.cache, given.encoders) as shop:
        wanted = {name: events for name, events in streams.items() if given.only in {None, name} or given.quick}
        texts = [event.row.text for events in wanted.values() for event in events]
        shop.prepare((row.encoder for row in rows), texts)
        results = asyncio.run(_run_all(rows, shop, wanted, (first, batch), given))
    sizes: Json = {"events": {name: len(events) for name, events in streams.items()}, "imported": first}
    results = merged_in_groups(given, sizes, "streams", results)
    results = {name: paired(found, len(streams[name]) - first) for name, found in results.items()}
    heading = "B4: dated streams, predict, score, then learn"
    curves = {
        f"{name}: {one['title']}": (range(1, 11), _deciles(one)) for name, f in results.items() for one in f.values()
    }
    plot(given, curves, "tenth of the stream", "accuracy, %", heading)
    tables = [
        Table(
            f"{name}: {len(streams[name]) - first} events after the import of {first}",
            ("row", "accuracy %", *(f"{tenth}/10" for tenth in range(1, 11)), "lowest against frozen"),
            [_line(one) for one in found.values()],
        )
        for name, found in results.items()
    ]
    found = sizes | {"streams": results, "goals": goals(results)}
    everything = [one for rows_of in results.values() for one in rows_of.values()]
    publish(given, heading, tables, found, before, everything, _NOTES)


async def _run_all(
    rows: Sequence[Row], shop: Workshop, streams: dict[str, list[Event]], sizes: tuple[int, int], given: Given
) -> dict[str, Json]:
    first, batch = sizes
    steps = sum(-(-(len(events) - first) // batch) for events in streams.values())
    runs = sum(1 if row.name == "ngram" else given.seeds for row in rows)
    results: dict[str, Json] = {}
    with progress(steps * runs, given.name) as advance:
        for name, events in streams.items():
            found: Json = {}
            for row in rows:
                for seed in given.range[:1] if row.name == "ngram" else given.range:
                    frozen, online, trained = await _run(row, shop, events, sizes, seed, advance)
                    for key, title, right, more in (
                        (f"{row.name}_frozen", f"{row.title}, frozen", frozen, {}),
                        (row.name, row.title, online, {"consolidations": trained} if trained else {}),
                    ):
                        found.setdefault(key, {"title": title, "runs": []})["runs"].append(
                            {"seed": seed} | measures(right, frozen) | {"right": to_text(right)} | more
                        )
            results[name] = found
    return results


async def _run(
    row: Row, shop: Workshop, events: Sequence[Event], sizes: tuple[int, int], seed: int, advance: Advance
) -> tuple[Bools, Bools, list[Json]]:
    """Which events after the import were answered rightly: by the learner as it was then, and as it went on. Also what
    its consolidations did.
    """
    first, size = sizes
    rows = [event.row for event in events]
    learner, trained = row.make(shop, seed), list[Json]()

    async def train(learned: int) -> None:
        if row is _TRAINED and isinstance(learner, Pawl):
            trained.append({"labels": learned} | asdict(await learner.consolidate()))

    await learner.learn(rows[:first])
    await learner.rest()
    await train(first)
    frozen = (await learner.scores(Questions(rows[first:]))).right(rows[first:])
    online: list[Bools] = []
    taught = first
    for begin in range(first, len(rows), size):
        batch = rows[begin : begin + size]
        online.append((await learner.scores(Questions(batch))).right(batch))
        upto = max(taught, begin + len(batch) - size)
        if upto > taught:
            await learner.learn(rows[taught:upto])
            taught = upto
            if (taught - first) % _TRAIN_AFTER < size <= taught - first:
                await train(taught)
        await learner.rest()
        advance(f"{row.title}, seed {seed}")
    if isinstance(learner, Pawl):
        await learner.close()
    return frozen, np.concatenate(online), trained


def measures(right: Bools, frozen: Bools) -> Json:
    """Accuracy over all events and in tenths, and the smallest lead over `frozen` in any window; in per cent."""
    ahead = np.cumsum(right.astype(np.int64) - frozen)
    window = min(_WINDOW, len(right))
    over = ahead[window - 1 :] - np.concatenate([[0], ahead[:-window]])
    return {
        "accuracy": 100.0 * float(right.mean()),
        "deciles": [100.0 * float(part.mean()) for part in np.array_split(right, 10)],
        "lowest_against_frozen": 100.0 * float(over.min()) / window,
    }


def goals(results: dict[str, Json]) -> list[Json]:
    """Design section 8."""
    found = []
    for name, rows in results.items():
        for learner in ("pawl", "consolidated") if "ngram" in rows else ():
            if learner in rows:
                found += _reached(f"{name}, {learner}", rows[learner], rows["ngram"])
        if "pawl" in rows and name in _GOALS:
            acc = statistics.fmean(run["accuracy"] for run in rows["pawl"]["runs"])
            found.append(goal(f"{name}, pawl: {acc:.2f} %, wanted >= {_GOALS[name]} %", met=acc >= _GOALS[name]))
        found += not_worse(name, rows)
    return found


def _reached(name: str, one: Json, ngram: Json) -> list[Json]:
    ahead = [mine - theirs for mine, theirs in zip(_deciles(one), _deciles(ngram), strict=True)]
    better = sum(lead > 0 for lead in ahead)
    lowest = min(run["lowest_against_frozen"] for run in one["runs"])
    return [
        goal(f"{name}: above the n-gram learner in {better} of 10 deciles, wanted 10", met=better == 10),
        goal(f"{name}: {lowest:.1f} points against frozen over its worst 500 events, wanted >= 0", met=lowest >= 0),
    ]


def _deciles(one: Json) -> list[float]:
    return [statistics.fmean(run["deciles"][tenth] for run in one["runs"]) for tenth in range(10)]


def _line(one: Json) -> list[str]:
    accuracy = spread([run["accuracy"] for run in one["runs"]])
    lowest = min(run["lowest_against_frozen"] for run in one["runs"])
    return [one["title"], accuracy, *(f"{value:.1f}" for value in _deciles(one)), f"{lowest:.1f}"]


if __name__ == "__main__":
    sys.exit(start(main))
