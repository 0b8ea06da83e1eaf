"""Novelty: known texts are ranked as if they were not known yet, and each version has what fits its own head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from pawl.classifier.novelty import Novelty
from pawl.classifier.stacking import Stacking
from pawl.domain.manifest import novelty_file
from pawl.domain.versions import HeadName
from pawl.ports import Floats
from tests.intents import labelled
from tests.worker.examples import DIMENSION, STACKED, examples, learner, teach
from tests.worker.lives import Lived, live
from worker.model.change import LabelledFeatures, ModelChange, stacked
from worker.model.novelty_reference import lexical_novelty_of, measure, novelty_of
from worker.model.proposal import Hyperparameters
from worker.model.task_model import TaskModel
from worker.state.learner_state import TaskNovelty

_PART = 20
"""d_0: of the examples' features the first so many are taken for z."""


def test_a_known_text_is_as_strange_as_it_was_before_it_was_known() -> None:
    known = [*examples("a", 70, spread=2.0), *examples("b", 66, spread=2.0), *examples("c", 30, spread=2.0)]
    task = learner()
    teach(task, known, [], bulk=True)
    expected = []
    for item in task.evaluation.items:
        own = next(e for e in known if e.sample_id == item.sample_id)
        fresh = learner()
        fresh.restore(dict.fromkeys(task.labels, 0))
        teach(fresh, [e for e in known if e is not own], [], bulk=True)
        expected.append(_strangeness(fresh, novelty_of(fresh, _PART), [own])[0])
    found = novelty_of(task, _PART)
    order = np.quantile(expected, np.linspace(0, 1, 101))
    np.testing.assert_allclose(found.quantiles, order, atol=2e-4)


def test_what_a_candidate_says_is_what_is_so_after_it_is_applied() -> None:
    for bulk in (False, True):
        task = learner()
        known = teach(task, [*examples("a", 40), *examples("b", 40)], [])
        candidate = task.propose(ModelChange(examples("c", 70), known[:3]), bulk=bulk)
        said = novelty_of(task, _PART, candidate)
        task.apply(candidate)
        _assert_same(said, novelty_of(task, _PART))
        chosen = task.propose_settings(Hyperparameters({"semantic": 3.0, "lexical": 0.1}, STACKED, 0.1, 100))
        said = novelty_of(task, _PART, chosen)
        task.apply(chosen)
        _assert_same(said, novelty_of(task, _PART))


def test_known_words_are_as_strange_as_they_were_before_they_were_known() -> None:
    task = learner()
    known = [*examples("a", 70, spread=2.0), *examples("b", 66, spread=2.0)]
    teach(task, known, [], bulk=True)
    counts = dict(zip(task.labels, task.counts, strict=True))
    squares = {e.sample_id: e.features["lexical"].double().square() for e in known}
    weights = {e.sample_id: e.weight * task.class_weight(counts[e.label]) for e in known}
    total = 1 + torch.stack([squares[e.sample_id] * weights[e.sample_id] for e in known]).sum(0)
    scores = task.leave_one_out(head="lexical").double().amax(1)
    expected = [
        float((squares[id] / (total - weights[id] * squares[id])).sum().log()) - float(best)
        for id, best in zip((item.sample_id for item in task.evaluation.items), scores, strict=True)
    ]
    found = lexical_novelty_of(task)
    np.testing.assert_allclose(found.quantiles, np.quantile(expected, np.linspace(0, 1, 101)), atol=1e-4)
    np.testing.assert_allclose(found.rarity, 1 / total.numpy(), rtol=1e-5)
    candidate = task.propose(ModelChange(examples("c", 3), known[:3]))
    said = lexical_novelty_of(task, candidate)
    task.apply(candidate)
    now = lexical_novelty_of(task)
    np.testing.assert_allclose(said.quantiles, now.quantiles, atol=1e-5)
    np.testing.assert_allclose(said.rarity, now.rarity, rtol=1e-5)


def test_new_texts_of_known_labels_spread_over_the_ranks_and_others_are_at_the_top() -> None:
    task = learner()
    teach(task, [e for label in "abcd" for e in examples(label, 100)], [], bulk=True)
    novelty = novelty_of(task, DIMENSION)
    like = _rank(task, novelty, [e for label in "abcd" for e in examples(label, 100, seed=7)])
    assert 0.4 < like.mean() < 0.6
    assert 0.0 < (like > 0.9).mean() < 0.2
    assert _rank(task, novelty, examples("z", 100)).mean() > 0.95


def test_golden_samples_rank_though_they_are_not_in_the_head() -> None:
    task = learner()
    known = [*examples("a", 40), *examples("b", 40)]
    teach(task, known, [], bulk=True)
    golden = [replace(e, golden=True) for e in examples("a", 30, seed=3)]
    task.add_to_evaluation(golden)
    assert [item.sample_id for item in task.evaluation.items] == [e.sample_id for e in (*known, *golden)]
    z = torch.stack([e.features["semantic"][:_PART] for e in (*known, *golden)])
    weights = torch.tensor([task.class_weight(40)] * len(known) + [0.0] * len(golden))
    _assert_same(novelty_of(task, _PART), measure(_gram(task, known), z, weights, task.leave_one_out()))


def test_few_texts_or_none_are_enough() -> None:
    task = learner()
    teach(task, examples("a", 1), [])
    teach(task, examples("b", 1), [])
    novelty = novelty_of(task, _PART)
    assert np.isfinite(novelty.quantiles).all()
    assert (np.abs(novelty.quantiles) < 10).all(), "the offset of a label without samples is no score"
    nobody = measure(torch.zeros(4, 4), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 2))
    z = np.eye(4, dtype=np.float32)
    assert nobody.rank(z, np.full((4, 2), 0.5, np.float32)).tolist() == [0.0] * 4


def test_it_is_made_anew_when_the_head_has_outgrown_it() -> None:
    task = learner()
    teach(task, examples("a", 5), [])
    ranked = TaskNovelty(novelty_of(task, _PART), None, 100, task.hyperparameters)
    grown = {count: ranked.is_outgrown(count, task.hyperparameters) for count in (80, 84, 100, 120, 121)}
    assert grown == {80: True, 84: False, 100: False, 120: False, 121: True}
    other: dict[HeadName, float] = {"semantic": 0.1, "lexical": 0.3}
    assert ranked.is_outgrown(100, replace(task.hyperparameters, regularisation=other))
    assert ranked.is_outgrown(100, replace(task.hyperparameters, stacking=Stacking(0.1, 0.9, 0.1)))
    assert not ranked.is_outgrown(100, replace(task.hyperparameters, temperature=0.7))


async def test_each_task_of_a_version_has_the_novelty_of_its_own_head(lived: Lived) -> None:
    """A task's first version already. One correction more does not change the files."""
    one = lived.learner
    pairs = [(text, "long" if len(text) > 40 else "short") for text, _ in labelled(30, seed=2)]
    await one.accept(pairs, task="length")
    await one.learn_queued()
    first = lived.pawl.offline((await live(one)).number)
    assert first.tasks == ("default", "length")
    for task, own in lived.state.tasks.items():
        _assert_same(first.heads[task].novelty, novelty_of(own, lived.state.features.widened))
    await one.accept([("a text that nobody has sent yet", "long")], task="length")
    await one.learn_queued()
    second = lived.pawl.offline((await live(one)).number)
    assert second.number == first.number + 1
    for task in first.tasks:
        assert second.manifest.files[novelty_file(task)] == first.manifest.files[novelty_file(task)]


def _gram(task: TaskModel, known: Sequence[LabelledFeatures]) -> torch.Tensor:
    counts = dict(zip(task.labels, task.counts, strict=True))
    z = torch.stack([e.features["semantic"] for e in known]).double()
    weights = torch.tensor([e.weight * task.class_weight(counts[e.label]) for e in known], dtype=torch.float64)
    return ((z * weights[:, None]).T @ z)[:_PART, :_PART]


def _strangeness(task: TaskModel, novelty: Novelty, some: Sequence[LabelledFeatures]) -> Floats:
    return novelty.strangeness(*_asked(task, some))


def _rank(task: TaskModel, novelty: Novelty, some: Sequence[LabelledFeatures]) -> Floats:
    return novelty.rank(*_asked(task, some))


def _asked(task: TaskModel, some: Sequence[LabelledFeatures]) -> tuple[Floats, Floats]:
    """z and the stacked scores."""
    rows = stacked(some, task.heads)
    return rows["semantic"].numpy(), task.stacked.scores(rows).float().numpy()


def _assert_same(one: Novelty, other: Novelty) -> None:
    np.testing.assert_allclose(one.quantiles, other.quantiles, atol=1e-5)
    np.testing.assert_allclose(one.factor, other.factor, atol=1e-5)
    assert one.leverage_weight == pytest.approx(other.leverage_weight)
