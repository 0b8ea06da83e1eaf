"""What words cost: features and scores of a text, and the ridge regression of a lexical head.

    python benchmarks/lexical.py [--size 4096] [--samples 50 500 1000 10000]

Texts are invented requests to a support desk, strung together to so many words. Features are those of
`pawl/classifier/lexical.py`, scores those of 77 classes: for one text at a time, and for 32 at once. Both are timed
call by call in one thread, and the median and the first percentile are told: the latter is what a call takes while
nothing else has the core.

A head (`worker/model/ridge.py`, float64) learns so many texts of 20 labels in one go, tries two values of lambda, and
then takes corrections one at a time. Seconds are processor time in one thread. Memory is what the process grew by.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psutil
import torch
from threadpoolctl import threadpool_limits

from benchmarks.datasets import invented
from benchmarks.harness import Json, goal, machine, out, parser, save, show, start
from pawl.classifier.lexical import LexicalFeatures
from pawl.ports import Floats
from worker.model.ridge import RidgeHead, RowChange

_CLASSES = 77
_BATCH = 32
_LABELS = 20
_FEATURES_US, _SCORES_US = 40.0, 80.0  # of a text of 12 words, alone
_MOST_WORDS = 4096
_WAYS, _PARTS = ("one", "together"), ("features", "scores")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs it; see the module."""
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=4096, help="columns of the features (default 4096)")
    options.add_argument("--words", type=int, nargs="+", default=[3, 12, 50, 250], help="lengths of the texts")
    options.add_argument("--samples", type=int, nargs="+", default=[50, 500, 1000, 10_000], help="of the heads")
    options.add_argument("--rounds", type=int, default=20, help="times each text is read (default 20)")
    options.add_argument("--corrections", type=int, default=40, help="of each head (default 40)")
    given = options.parse_args(argv)
    before, rng, features = machine(), random.Random(given.seed), LexicalFeatures(given.size)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        texts = [_texts(features, min(words, _MOST_WORDS), given.rounds, rng) for words in given.words]
        heads = [_head(features, samples, given.corrections, rng) for samples in given.samples]
    _show(texts, heads)
    goals = []
    for row in (row for row in texts if row["words"] == 12):
        met = row["one"]["features_us"] <= _FEATURES_US and row["one"]["scores_us"] <= _SCORES_US
        said = f"{row['one']['features_us']:.0f} and {row['one']['scores_us']:.0f} us"
        goals.append(
            goal(f"a text of 12 words <= {_FEATURES_US:.0f} us, with scores <= {_SCORES_US:.0f} us: {said}", met=met)
        )
    save("lexical", vars(given), {"texts": texts, "heads": heads, "goals": goals}, before, given.results)


def _texts(features: LexicalFeatures, words: int, rounds: int, rng: random.Random) -> Json:
    stock = [word for row in invented(_LABELS, 20, rng) for word in row.text.split()]
    texts = [" ".join(rng.choices(stock, k=words)) for _ in range(_BATCH)]
    weights = np.random.default_rng(0).standard_normal((features.width, _CLASSES), dtype=np.float32)
    return {
        "words": words,
        "characters": round(statistics.mean(map(len, texts))),
        "one": _timed(features, [[text] for text in texts] * rounds, weights),
        "together": _timed(features, [texts] * rounds, weights),
    }


def _timed(features: LexicalFeatures, batches: Sequence[list[str]], weights: Floats) -> Json:
    """Microseconds a text: medians, and the first percentile."""
    features.sparse(batches[0]).scores(weights)  # makes the tables
    alone, scored = [], []
    for batch in batches:  # in turn, so that whatever else runs is beside both
        alone.append(_seconds(features.sparse, batch) / len(batch) * 1e6)
        scored.append(_seconds(lambda texts: features.sparse(texts).scores(weights), batch) / len(batch) * 1e6)
    return {
        "features_us": round(float(np.median(alone)), 1),
        "scores_us": round(float(np.median(scored)), 1),
        "features_us_undisturbed": round(float(np.percentile(alone, 1)), 1),
        "scores_us_undisturbed": round(float(np.percentile(scored, 1)), 1),
    }


def _seconds(work: Callable[[list[str]], object], texts: list[str]) -> float:
    begun = time.perf_counter()
    work(texts)
    return time.perf_counter() - begun


def _head(features: LexicalFeatures, samples: int, corrections: int, rng: random.Random) -> Json:
    rows = invented(_LABELS, -(-samples // _LABELS), rng)[:samples]
    labels = sorted({row.label for row in rows})
    phi = torch.from_numpy(features.expand([row.text for row in rows]))
    change = RowChange(phi, torch.tensor([labels.index(row.label) for row in rows]), torch.ones(len(rows)).double())
    memory, head = _memory(), RidgeHead(features.width, 1.0)
    learned = _processor(lambda: _learn(head, change, len(labels)))
    grown = _memory() - memory
    judged = phi[:2000].double()

    def choose() -> None:
        for value in (0.3, 3.0):
            system = head.system(value)
            system.solve(head.moments)
            system.leverages(judged)

    chosen = _processor(choose) / 2
    steps = [_processor(partial(_correct, head, change, index % samples)) for index in range(corrections)]
    return {
        "samples": samples,
        "memory_mib": round(grown, 1),
        "snapshot_mib": round(
            sum(each.numel() * each.element_size() for each in head.statistics().values()) / 2**20, 1
        ),
        "learn_s": round(learned, 4),
        "one_lambda_s": round(chosen, 4),
        "correction_p50_ms": round(statistics.median(steps) * 1e3, 2),
        "correction_max_ms": round(max(steps) * 1e3, 2),
    }


def _learn(head: RidgeHead, change: RowChange, classes: int) -> None:
    head.absorb(change, classes)
    head.refit()


def _correct(head: RidgeHead, change: RowChange, row: int) -> None:
    """A sample gets another label: it leaves, and comes with the new one."""
    features = change.features[row].expand(2, -1)
    classes = torch.stack([change.classes[row], (change.classes[row] + 1) % head.classes])
    step = RowChange(features, classes, torch.tensor([-1.0, 2.0]).double())
    head.apply(head.propose(step, head.classes, head.gain(step.features)))
    change.classes[row] = classes[1]


def _processor(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _memory() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)


def _show(texts: Sequence[Json], heads: Sequence[Json]) -> None:
    columns = ("words", "characters", "one: features", "with scores", "32: features", "with scores")
    for title, ending in (("median", "us"), ("first percentile", "us_undisturbed")):
        cells = [
            (row["words"], row["characters"], *(row[way][f"{of}_{ending}"] for way in _WAYS for of in _PARTS))
            for row in texts
        ]
        show(f"microseconds a text, {title}", columns, cells)
    out.print()
    names = (
        "samples",
        "memory_mib",
        "snapshot_mib",
        "learn_s",
        "one_lambda_s",
        "correction_p50_ms",
        "correction_max_ms",
    )
    titles = ("samples", "memory, MiB", "snapshot, MiB", "learn, s", "one lambda, s", "correction, ms", "longest, ms")
    show("a lexical head, processor time", titles, [tuple(row[name] for name in names) for row in heads])


if __name__ == "__main__":
    sys.exit(start(main))
