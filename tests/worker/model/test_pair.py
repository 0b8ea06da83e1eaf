"""The two heads of a task as one: what is learned, corrected and forgotten is so for the pair, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from tests.worker.examples import BOTH, STACKED, difference, direct_weights, examples, learner, teach, weights_of
from worker.model.change import LabelledFeatures, ModelChange, stacked
from worker.model.correction_weight import MARGIN
from worker.model.hyperparameters import choose
from worker.model.novelty_reference import lexical_novelty_of
from worker.model.relabel import Retirement
from worker.model.task_model import TaskModel
from worker.model.words_alone import words_alone

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(order=st.permutations(range(24)), leave=st.sets(st.integers(0, 23), max_size=20))
@settings(max_examples=25)
def test_adding_and_removing_in_any_order_answers_as_a_refit_does(
    dtype: torch.dtype, order: Sequence[int], leave: set[int]
) -> None:
    samples = [*examples("a", 10), *examples("b", 9), *examples("c", 5)]
    task, known = learner(dtype=dtype), list[LabelledFeatures]()
    for start in range(0, len(order), 5):
        known = teach(task, [samples[place] for place in order[start : start + 5]], known)
    for place in leave:
        known = teach(task, [], known, [samples[place]])
    fresh = learner(dtype=dtype)
    fresh.restore(dict.fromkeys(task.labels, 0))
    teach(fresh, known, [], bulk=True)
    asked = stacked([e for label in "abcd" for e in examples(label, 5, seed=3)], BOTH)
    found, right = task.stacked.scores(asked), fresh.stacked.scores(asked)
    assert float((found - right).abs().max()) <= _TOLERANCE[dtype]


def _crowd() -> tuple[TaskModel, list[LabelledFeatures]]:
    """Heads of four labels of 70 samples each, for 24 and 16 features: no sample has a direction of its own."""
    task = learner(emphasis_limit=1000.0)
    return task, teach(task, [e for label in "abcd" for e in examples(label, 70, spread=0.7)], [], bulk=True)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.6, 0.4), (0.05, 0.95), (0.0, 1.0)])
def test_sixty_of_sixty_corrections_are_answered_next_by_the_pair(shares: tuple[float, float]) -> None:
    """Also those in the midst of 70 samples with another label, one after the other, each on what was learned."""
    task, _ = _crowd()
    task.stacking = Stacking(1.0, *shares)
    for number in range(60):
        near, label = "abcd"[number % 4], "abcd"[(number + 1 + number // 4) % 4]
        sample = replace(examples(near, 1, seed=100 + number, spread=0.5, prefix="fix")[0], label=label)
        proposal = task.propose(ModelChange([sample], corrections=frozenset({sample.sample_id})))
        task.apply(proposal)
        scores = task.stacked.scores(stacked([sample], BOTH))[0]
        column = task.labels.index(label)
        assert int(scores.argmax()) == column
        if sample.sample_id in proposal.emphasis:  # and with no more weight than it takes
            rest = scores.clone()
            rest[column] = -torch.inf
            assert float(scores[column] - rest.max()) == pytest.approx(MARGIN, abs=1e-6)


def test_a_correction_that_one_head_would_outvote_leads_by_the_other() -> None:
    """What a text is near to in one head's space says nothing of the other's: k is worked out for each."""
    task, _ = _crowd()
    strange = examples("z", 1, seed=1)[0].features["lexical"]
    sample = examples("a", 1, seed=9, spread=0.5, prefix="fix")[0]
    mixed = replace(sample, label="b", features={**sample.features, "lexical": strange})
    weights = {}
    for stacking in (Stacking.SEMANTIC, STACKED):
        task.stacking = stacking
        proposal = task.propose(ModelChange([mixed], corrections=frozenset({mixed.sample_id})))
        weights[stacking] = proposal.emphasis.get(mixed.sample_id, 1.0)
        assert int(proposal.stacked.scores(stacked([mixed], BOTH)).argmax()) == task.labels.index("b")
    assert weights[STACKED] < weights[Stacking.SEMANTIC]


@pytest.mark.parametrize("head", BOTH)
def test_a_task_with_one_head_learns_corrects_and_forgets(head: HeadName) -> None:
    task = learner(heads=[head], emphasis_limit=100.0)
    assert task.stacking == (Stacking.SEMANTIC if head == "semantic" else Stacking.LEXICAL)
    known = teach(task, [e for label in "ab" for e in examples(label, 40)], [])
    before = weights_of(task)
    sample = replace(examples("a", 1, seed=5, spread=0.2, prefix="fix")[0], label="b")
    proposal = task.propose(ModelChange([sample], corrections=frozenset({sample.sample_id})))
    task.apply(proposal)
    assert int(task.stacked.scores(stacked([sample], [head])).argmax()) == task.labels.index("b")
    assert torch.equal(task.leave_one_out(), task.leave_one_out(head=head))
    teach(task, [], [], [replace(sample, weight=proposal.emphasis[sample.sample_id])])
    assert difference(weights_of(task), before) <= 1e-8
    assert difference(weights_of(task), direct_weights(task, known)) <= 1e-8
    chosen = choose(task)
    assert chosen is not None
    assert chosen.stacking == task.stacking


def _with_lexical(samples: Sequence[LabelledFeatures], features: Mapping[str, torch.Tensor]) -> list[LabelledFeatures]:
    return [replace(e, features={**e.features, "lexical": features[e.sample_id]}) for e in samples]


def test_words_count_where_they_help_and_not_where_they_are_noise() -> None:
    samples = [e for label in "abcdef" for e in examples(label, 40, spread=3.0)]
    random = torch.Generator().manual_seed(0)
    noise = {e.sample_id: torch.randn(16, generator=random) / 4 for e in samples}
    words = {}
    for name, known in {"as they are": samples, "noise": _with_lexical(samples, noise)}.items():
        task = learner()
        task.stacking = Stacking.SEMANTIC
        teach(task, known, [], bulk=True)
        chosen = choose(task)
        assert chosen is not None
        words[name] = chosen.stacking.words
    assert words["noise"] <= 0.1
    assert words["as they are"] >= 0.3


def test_another_stacking_is_taken_only_where_it_is_clearly_better() -> None:
    task = learner()
    task.stacking = Stacking.SEMANTIC
    teach(task, [e for label in "abcdef" for e in examples(label, 40, spread=3.0)], [], bulk=True)
    chosen = choose(task)
    assert chosen is not None
    task.apply(task.propose_settings(chosen))
    a_little_less = replace(chosen.stacking, words=chosen.stacking.words - 0.1)
    task.stacking = a_little_less
    again = choose(task)
    assert again is not None
    assert again.stacking == a_little_less


def test_words_alone_are_measured_on_the_rows_that_a_proposal_leaves() -> None:
    """Golden samples that came after a proposal was judged, and rows that leave, are no rows of its report."""
    task = learner()
    known = teach(task, [e for label in "abc" for e in examples(label, 30)], [], bulk=True)
    first = task.propose_settings().paired
    task.add_to_evaluation([replace(e, sample_id=f"g-{e.sample_id}", golden=True) for e in examples("a", 4, seed=3)])
    late = replace(task.propose_settings(), paired=first)
    leaving = task.propose(ModelChange(examples("b", 2, seed=5), known[:3]))
    retiring = Retirement(task, "c")
    retiring.take_out([e for e in known if e.label == "c"])
    for proposal, count in ((None, 94), (late, 94), (leaving, 93), (retiring.propose(), 64)):
        assert len(task.targets(proposal)) == count
        assert len(task.leave_one_out(proposal, head="lexical")) == count
        novelty = lexical_novelty_of(task, proposal)
        assert words_alone(task, proposal, novelty, 0.0, np.zeros(0, np.uint64)).temperature > 0


def test_the_gate_judges_the_pair() -> None:
    """Live heads with their own stacking, the candidate with the one that it is to have."""
    task = learner()
    teach(task, [e for label in "abc" for e in examples(label, 30, spread=2.0)], [], bulk=True)
    other = Stacking(0.1, 0.9, 0.1)
    proposal = task.propose_settings(replace(task.hyperparameters, stacking=other))
    assert torch.equal(proposal.paired.live, task.leave_one_out())
    assert not torch.equal(proposal.paired.live, proposal.paired.candidate)
    heads = {head: task.leave_one_out(head=head) for head in BOTH}
    expected = 0.9 * heads["semantic"] + 0.1 * heads["lexical"]
    assert torch.allclose(proposal.paired.candidate, expected, atol=1e-12)
    task.apply(proposal)
    assert task.stacking == other
    assert torch.equal(task.leave_one_out(), proposal.paired.candidate)
