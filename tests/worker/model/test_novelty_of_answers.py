"""Novelty means the same whoever answers: on CLINC150, its out-of-scope queries against texts of its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets import Labelled
from benchmarks.harness import ROOT
from benchmarks.learning.data import load_out_of_scope, load_split
from benchmarks.learning.pawl_learner import Workshop, workshop
from benchmarks.learning.scope import auroc
from pawl.domain.predictions import Answer

_DATA = ROOT.parent / "shared" / "data"
_LABELS, _EACH, _ASKED, _OUTSIDE = 15, 40, 15, 150


@pytest.mark.skipif(not (_DATA / "clinc150").is_dir(), reason=f"{_DATA}/clinc150 is not there: novelty of real texts")
async def test_out_of_scope_texts_rank_alike_whether_words_or_the_encoder_answers(tmp_path: Path) -> None:
    split = load_split("clinc150", _DATA)
    labels = sorted({row.label for row in split.train})[:: 150 // _LABELS]
    known = [row for label in labels for row in [row for row in split.train if row.label == label][:_EACH]]
    inside = [text for label in labels for text in [row.text for row in split.test if row.label == label][:_ASKED]]
    outside = load_out_of_scope(_DATA)[:_OUTSIDE]
    with workshop(tmp_path) as shop:
        meaning = await _answers(shop, known, [*inside, *outside], lexical_size=0)
        mixed = await _answers(shop, known, [*inside, *outside], fast_answers_loss=0.1)
    by_words = [answer.by == "words" for answer in mixed]
    assert {answer.by for answer in meaning} == {"meaning"}
    assert sum(by_words[: len(inside)]) > 0.1 * len(inside), "or there is nothing to compare"
    found, before = (
        auroc(ranks[: len(inside)], ranks[len(inside) :])
        for ranks in (np.array([answer.novelty for answer in answers]) for answers in (mixed, meaning))
    )
    assert found > before - 0.01, f"AUROC {found:.4f} where {sum(by_words)} answers are by words, {before:.4f} before"


async def _answers(shop: Workshop, known: list[Labelled], texts: list[str], **settings: float) -> list[Answer]:
    """Of a version that has learned the known texts in one import."""
    learner = shop.pawl(retune=True, **settings)
    await learner.learn(known)
    answers = (await learner.classifier()).predict(texts)
    await learner.close()
    return answers
