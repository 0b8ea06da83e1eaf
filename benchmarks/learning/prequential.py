"""Learning while serving (B6): predict, score, then learn what feedback has come; and what the stream did to the test
texts of each class.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.datasets import Labelled
from benchmarks.harness import Json
from benchmarks.learning.answers import Learner, Questions
from benchmarks.learning.data import Split
from benchmarks.learning.metrics import to_text
from benchmarks.learning.pawl_learner import Pawl
from benchmarks.learning.production import ATTACKER, BATCH, Delivery, Plan
from benchmarks.learning.program import Advance
from pawl.domain.samples import SampleState

_REST_EVERY = 100
_REACHED = 70.0
_BELOW = 10.0
_LEVEL = 200
"""Requests before an attack over which the level of its victim is the mean."""


@dataclass(slots=True)
class Watch:
    """What is written down while a stream runs. `recall` has a row (classes,) in per cent for each batch."""

    right: list[bool] = field(default_factory=list)
    recall: list[dict[str, float]] = field(default_factory=list)
    labels_got: Counter[str] = field(default_factory=Counter)
    labels_needed: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Delivery] = field(default_factory=dict)


async def serve(learner: Learner, plan: Plan, split: Split, advance: Advance) -> Json:
    """Runs the stream through one learner; all measures of it."""
    watch, served = Watch(), list[str]()
    tested = Questions(split.test)
    positions: dict[str, list[int]] = {}
    for position, row in enumerate(split.test):
        positions.setdefault(row.label, []).append(position)
    await learner.learn(plan.bootstrap)
    await learner.rest()
    fresh = True
    for start in range(0, len(plan.requests), BATCH):
        batch = plan.requests[start : start + BATCH]
        answers = (await learner.scores(Questions(batch))).best()
        served += answers
        watch.right += [answer == row.label for answer, row in zip(answers, batch, strict=True)]
        arrived = plan.due(start)
        if arrived:
            await _teach(learner, arrived, served, watch)
        if start % _REST_EVERY == 0:
            await learner.rest()
        if fresh or arrived or start % _REST_EVERY == 0:
            right = (await learner.scores(tested)).right(split.test)
            recall = {label: 100.0 * float(right[own].mean()) for label, own in positions.items()}
        fresh = False
        watch.recall.append(recall)
        for label in plan.new:
            if label not in watch.labels_needed and watch.labels_got[label] and recall[label] >= _REACHED:
                watch.labels_needed[label] = watch.labels_got[label]
        advance(f"request {start}")
    return _measures(watch, plan) | (await _fates(learner, watch) if isinstance(learner, Pawl) else {})


async def _teach(learner: Learner, arrived: Sequence[Delivery], served: Sequence[str], watch: Watch) -> None:
    watch.labels_got.update(one.truth for one in arrived if one.label == one.truth)
    if isinstance(learner, Pawl):
        said = [served[one.request] if one.request is not None else None for one in arrived]
        ids = await learner.teach([one.sample(label) for one, label in zip(arrived, said, strict=True)])
        watch.sent |= dict(zip(ids, arrived, strict=True))
    else:
        await learner.learn([Labelled(one.text, one.label) for one in arrived])


def _measures(watch: Watch, plan: Plan) -> Json:
    right = np.array(watch.right)
    needed = [watch.labels_needed.get(label) for label in plan.new]
    reached = [count for count in needed if count is not None]
    result: Json = {
        "prequential": 100.0 * float(right.mean()),
        "right": to_text(right),
        "by_twelfth": [100.0 * float(part.mean()) for part in np.array_split(right, 12)],
        "new_classes": len(needed),
        "new_classes_reached": len(reached),
        "labels_needed_median": statistics.median(
            [count if count is not None else float("inf") for count in needed]
        ) if len(reached) * 2 > len(needed) else None,
        "labels_needed": needed,
        "final_accuracy": statistics.fmean(watch.recall[-1].values()),
    }  # fmt: skip
    return result | (_harm(watch, plan) if plan.attack_at is not None else {})


def _harm(watch: Watch, plan: Plan) -> Json:
    """How far below its level before the attack the victim's recall falls, and for how many requests in a row it is
    more than 10 points below.
    """
    recall = np.array([one[plan.victim] for one in watch.recall])
    start = (plan.attack_at or 0) // BATCH
    level = float(recall[max(0, start - _LEVEL // BATCH) : start].mean())
    longest = run = 0
    for low in (level - recall[start:]) > _BELOW:
        run = run + BATCH if low else 0
        longest = max(longest, run)
    return {
        "victim": plan.victim,
        "target": plan.target,
        "victim_level": level,
        "victim_max_drop": float((level - recall[start:]).max()),
        "victim_final_drop": float(level - recall[-1]),
        "requests_below": longest,
        "victim_recall": [round(float(value), 1) for value in recall[::5]],
    }


async def _fates(pawl: Pawl, watch: Watch) -> Json:
    """What became of samples and candidates."""
    samples = {one.id: one for one in await pawl.samples.get_many(list(watch.sent))}
    kinds: dict[str, list[bool]] = {"clean": [], "wrong": [], "attack": []}
    for sample_id, sent in watch.sent.items():
        kind = "clean" if sent.label == sent.truth else "attack" if sent.source == ATTACKER else "wrong"
        kinds[kind].append(samples[sample_id].state is SampleState.QUARANTINED)
    judged = [one for one in pawl.ledger.verdicts if one.adds and set(one.adds) <= watch.sent.keys()]
    clean = [one for one in judged if all(watch.sent[id].label == watch.sent[id].truth for id in one.adds)]
    return {
        "samples": {kind: len(held) for kind, held in kinds.items()},
        "quarantined": {kind: 100.0 * statistics.fmean(held) if held else None for kind, held in kinds.items()},
        "candidates": len(judged),
        "clean_candidates": len(clean),
        "clean_refused": 100.0 * sum(not one.accepted for one in clean) / len(clean) if clean else None,
    }
