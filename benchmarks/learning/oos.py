"""OOS: what a version says of its own answers, on CLINC150 learned in one import, and whether corrections take hold.

    python -m benchmarks.learning.oos --data ../shared/data --seeds 5

Out of scope: the queries that CLINC150 calls so against the test texts of its 150 intents, told apart by the highest
score, the highest probability, the leverage or the novelty that is served. AUROC, and the share of out-of-scope texts
that a threshold lets pass which keeps 95 % of the others.

Calibration: of the probability that is served with each answer, on all test texts; ECE with 15 bins of equal mass
(formula in `benchmarks/learning/scope.py`).

Corrections: the test texts are dealt into two halves. Those of the first half that are answered wrongly are given as
feedback, one at a time; each is asked on the version that learned it. The other half, of which no text is ever taught,
tells what that does to others.

Nothing here is tuned on: constants were chosen on the validation part.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.datasets import Labelled, shuffled
from benchmarks.harness import BenchmarkFailed, Json, goal, machine, start
from benchmarks.learning.answers import Questions
from benchmarks.learning.data import Split, invented_split, load_out_of_scope, load_split
from benchmarks.learning.merging import earlier, merged
from benchmarks.learning.metrics import mcnemar
from benchmarks.learning.pawl_learner import Pawl, Workshop, workshop
from benchmarks.learning.program import Advance, Given, progress, read_options
from benchmarks.learning.report import Table, plot, publish, spread
from benchmarks.learning.rows import WITHOUT_CONSOLIDATION, Row, chosen
from benchmarks.learning.scope import Values, auroc, calibration_error, kept_outside
from pawl.domain.predictions import Answer
from pawl.domain.samples import DEFAULT_TASK, SampleState

_ROWS = "semantic,pawl"
_MEASURES = {
    "score": "highest score",
    "probability": "highest probability",
    "leverage": "leverage",
    "pair": "novelty of both heads' answers",
    "novelty": "novelty, as served",
}
_SHARES = tuple(round(0.01 * step, 2) for step in range(31))
_FLAGGED = 0.95
_AUROC, _ECE, _HOLD, _LOSS = 0.95, 0.03, 99.0, 0.3
_NOTES = (
    "AUROC: the probability that an out-of-scope text looks stranger than an in-scope one. FPR: the out-of-scope texts "
    "that pass where 95 % of the in-scope ones do. Flagged: texts with a novelty above 0.95, which of texts like the "
    "known ones should be 5 %. ECE: 15 bins of equal mass over the probability of the answer. Corrections: of the "
    "wrongly answered texts of one half, the share answered as corrected by the version that learned them, and by the "
    "last version; the other half is taught nothing. p: exact McNemar on the other half, median over seeds."
)


@dataclass(frozen=True, slots=True)
class Texts:
    """What is taught and asked: a split, and texts that belong to none of its labels."""

    split: Split
    outside: Sequence[str]

    @property
    def all(self) -> list[str]:
        """Everything that will be embedded."""
        return [*(row.text for row in (*self.split.train, *self.split.test)), *self.outside]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    given = read_options("oos", __doc__, argv, limit="corrections for each seed (default: all wrongly answered texts)")
    before = machine()
    texts = _invented() if given.quick else Texts(load_split("clinc150", given.source), load_out_of_scope(given.source))
    rows = chosen(given.rows or _ROWS, WITHOUT_CONSOLIDATION)
    with workshop(given.cache, given.encoders) as shop:
        shop.prepare((row.encoder for row in rows), texts.all)
        results = asyncio.run(_run_all(rows, shop, texts, given))
    sizes: Json = {"train": len(texts.split.train), "test": len(texts.split.test), "out_of_scope": len(texts.outside)}
    results = merged(given, results, earlier(given, sizes).get("rows", {}))
    found = sizes | {"rows": results, "goals": goals({key: one["runs"] for key, one in results.items()})}
    _draw(given, next(reversed(results.values())))
    heading = f"OOS: out of scope, calibration, corrections ({texts.split.name})"
    publish(given, heading, _tables(texts, results.values()), found, before, results.values(), _NOTES)


async def _run_all(rows: Sequence[Row], shop: Workshop, texts: Texts, given: Given) -> Json:
    measured: Json = {row.name: {"title": row.title, "runs": []} for row in rows}
    with progress(2 * len(rows) * given.seeds, given.name) as advance:
        for seed in given.range:
            for row in rows:
                told = partial(_tell, advance, f"{row.title}, seed {seed}")
                measured[row.name]["runs"].append({"seed": seed} | await _run(row, shop, texts, seed, given, told))
    return measured


async def _run(row: Row, shop: Workshop, texts: Texts, seed: int, given: Given, told: Advance) -> Json:
    rng, learner = random.Random(seed), row.make(shop, seed)
    if not isinstance(learner, Pawl):
        raise BenchmarkFailed(f"{row.title} has no probabilities and learns no corrections")
    await learner.learn(shuffled(texts.split.train, rng))
    await learner.rest()
    found = await _examine(learner, texts)
    told("imported")
    test = shuffled(texts.split.test, rng)
    half = len(test) // 2
    found["corrections"] = await _correct(learner, test[:half], Questions(test[half:]), given.limit)
    told("corrected")
    await learner.close()
    return found


async def _examine(learner: Pawl, texts: Texts) -> Json:
    """What the live version says of its answers."""
    model = await learner.classifier()
    heads = model.heads[DEFAULT_TASK]
    head, novelty = heads.semantic, heads.novelty
    rows = texts.split.test

    def measure(some: Sequence[str]) -> tuple[dict[str, Values], list[Answer]]:
        phi, served = model.features.expand(model.embed(some)), model.predict(some)
        scores = heads.scores(phi, heads.words(some))
        probabilities = head.calibrated(scores)
        strange = {"score": -scores.max(1), "probability": -probabilities.max(1)}
        strange |= {"leverage": novelty.leverage(phi), "pair": novelty.rank(phi, scores)}
        return strange | {"novelty": np.array([answer.novelty for answer in served])}, served

    (inside, answers), (outside, _) = measure([row.text for row in rows]), measure(texts.outside)
    right = np.array([answer.label == row.label for answer, row in zip(answers, rows, strict=True)])
    return {
        "acc": 100.0 * float(right.mean()),
        "ece": calibration_error(np.array([answer.score for answer in answers]), right),
        "by_words": 100.0 * statistics.fmean(answer.by == "words" for answer in answers),
        "temperature": head.temperature,
        "flagged_inside": 100.0 * float((inside["novelty"] > _FLAGGED).mean()),
        "flagged_outside": 100.0 * float((outside["novelty"] > _FLAGGED).mean()),
        "measures": {
            name: {
                "auroc": auroc(inside[name], outside[name]),
                "fpr": 100.0 * kept_outside(inside[name], outside[name]),
                "caught": [100.0 - 100.0 * kept_outside(inside[name], outside[name], 1.0 - share) for share in _SHARES],
            }
            for name in _MEASURES
        },
    }


async def _correct(learner: Pawl, asked: Sequence[Labelled], others: Questions, limit: int | None) -> Json:
    """Corrects what is wrong of `asked`, one text at a time. Each is asked as the app would ask."""
    before = (await learner.scores(others)).right(others.rows)
    answers = (await learner.scores(Questions(asked))).right(asked)
    wrong = [row for row, right in zip(asked, answers, strict=True) if not right][:limit]
    held, learned = [], 0
    for row in wrong:
        [sample] = await learner.samples.get_many(await learner.teach(learner.lessons([row])))
        learned += sample.state is SampleState.LEARNED
        held.append((await learner.classifier()).predict([row.text])[0].label == row.label)
    after = (await learner.scores(others)).right(others.rows)
    at_last = (await learner.scores(Questions(wrong))).right(wrong) if wrong else before[:0]
    return {
        "given": len(wrong),
        "learned": learned,
        "held": sum(held),
        "held_at_last": int(at_last.sum()),
        "others_before": 100.0 * float(before.mean()),
        "others_after": 100.0 * float(after.mean()),
        "mcnemar": mcnemar(after, before),
    }


def goals(results: Json) -> list[Json]:
    """Issue and design: calibrated, out-of-scope texts told apart, corrections hold and harm no others."""
    runs = results.get("pawl")
    if runs is None:
        return []
    novelty = statistics.fmean(run["measures"]["novelty"]["auroc"] for run in runs)
    ece = statistics.fmean(run["ece"] for run in runs)
    found = [
        goal(f"pawl: AUROC of novelty {novelty:.3f}, wanted >= {_AUROC}", met=novelty >= _AUROC),
        goal(f"pawl: ECE {ece:.4f}, wanted <= {_ECE}", met=ece <= _ECE),
    ]
    corrections = [run["corrections"] for run in runs if run["corrections"]["given"]]
    if corrections:
        given = sum(one["given"] for one in corrections)
        held = 100.0 * sum(one["held"] for one in corrections) / given
        loss = statistics.fmean(one["others_before"] - one["others_after"] for one in corrections)
        found += [
            goal(f"pawl: {held:.2f} % of {given} corrections hold, wanted >= {_HOLD} %", met=held >= _HOLD),
            goal(f"pawl: the others lose {loss:.2f} points, wanted <= {_LOSS}", met=loss <= _LOSS),
        ]
    return found


def _tables(texts: Texts, results: Iterable[Json]) -> list[Table]:
    train, test = len(texts.split.train), len(texts.split.test)
    scope, answers, corrections = [], [], []
    for one in results:
        runs, title = one["runs"], one["title"]
        for name, called in _MEASURES.items():
            own = [run["measures"][name] for run in runs]
            scope.append([title, called, _fine([m["auroc"] for m in own]), spread([m["fpr"] for m in own])])
        shares = [spread([run[key] for run in runs]) for key in ("acc", "flagged_inside", "flagged_outside")]
        by_words = spread([run.get("by_words", 0.0) for run in runs])  # runs of before the words had a head
        answers.append([title, shares[0], _fine([run["ece"] for run in runs]), *shares[1:], by_words])
        done = [run["corrections"] for run in runs if run["corrections"]["given"]]
        if done:
            counts = [sum(told[key] for told in done) for key in ("given", "learned", "held", "held_at_last")]
            others = [spread([told[key] for told in done]) for key in ("others_before", "others_after")]
            p = statistics.median(told["mcnemar"]["p"] for told in done)
            shown = [f"{100.0 * count / counts[0]:.2f}" for count in counts[1:]]
            corrections.append([title, counts[0], *shown, *others, f"{p:.2g}"])
    return [
        Table(
            f"Out of scope or not; {train} training, {test} test and {len(texts.outside)} out-of-scope texts.",
            ("row", "by", "AUROC", "FPR at 95 % TPR, %"),
            scope,
        ),
        Table(
            "What is served.",
            ("row", "ACC %", "ECE", "in-scope texts flagged %", "out-of-scope texts flagged %", "by words alone %"),
            answers,
        ),
        Table(
            "Corrections, one at a time, over all seeds.",
            (
                "row",
                "given",
                "learned %",
                "right at once %",
                "right at last %",
                "others before %",
                "others after %",
                "p",
            ),
            corrections,
        ),
    ]


def _draw(given: Given, one: Json) -> None:
    shares = [100.0 * share for share in _SHARES]
    lines = {
        called: (shares, np.mean([run["measures"][name]["caught"] for run in one["runs"]], axis=0).tolist())
        for name, called in _MEASURES.items()
    }
    plot(given, lines, "in-scope texts taken for strange, %", "out-of-scope texts caught, %", one["title"])


def _fine(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.4f}" if len(values) == 1 else f"{mean:.4f} ± {statistics.stdev(values):.4f}"


def _tell(advance: Advance, who: str, what: str) -> None:
    advance(f"{who}: {what}")


def _invented() -> Texts:
    """Six labels that are taught, one that only corrections teach, and texts of an eighth, which is none."""
    whole = invented_split(8, 12, 6, random.Random(0))
    train = [row for row in whole.train if row.label in whole.labels[:6]]
    test = [row for row in whole.test if row.label in whole.labels[:7]]
    return Texts(Split(whole.name, train, test), [row.text for row in whole.test if row.label == whole.labels[7]])


if __name__ == "__main__":
    sys.exit(start(main))
