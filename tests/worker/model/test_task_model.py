"""A task's learner: exact with its class weights, judged without its own labels, undone without a trace."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from tests.worker.examples import STACKED, difference, direct_weights, examples, learner, teach, weights_of
from worker.model.change import LabelledFeatures, ModelChange, stacked
from worker.model.class_balance import NEVER, ClassBalance
from worker.model.hyperparameters import choose, choose_temperature
from worker.model.proposal import Hyperparameters
from worker.model.task_model import TaskModel


def test_class_weights_step_at_powers_of_two() -> None:
    task = learner()
    assert [task.class_weight(n) for n in (1, 2, 3, 4, 31, 32, 63, 64, 1000)] == [64, 32, 32, 16, 4, 2, 2, 1, 1]


@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12), st.booleans()), min_size=1, max_size=10))
@settings(max_examples=40)
def test_weights_equal_the_direct_solve_while_classes_grow_and_shrink(steps: list[tuple[str, int, bool]]) -> None:
    task, known = learner(), list[LabelledFeatures]()
    for number, (label, count, leave) in enumerate(steps):
        removes = [e for e in known if e.label == label][:count] if leave else []
        adds = [] if removes else examples(label, count, seed=number)
        known = teach(task, adds, known, removes)
        if known:
            assert difference(weights_of(task), direct_weights(task, known)) <= 1e-8


def test_bulk_and_rank_updates_agree() -> None:
    one, other = learner(), learner()
    samples = [*examples("a", 30), *examples("b", 20), *examples("c", 3)]
    teach(one, samples, [], bulk=True)
    known: list[LabelledFeatures] = []
    for start in range(0, len(samples), 7):
        known = teach(other, samples[start : start + 7], known)
    assert one.labels == other.labels
    assert one.counts == other.counts
    assert difference(weights_of(other), weights_of(one)) <= 1e-9
    rows = {item.sample_id: row for row, item in enumerate(other.evaluation.items)}
    order = [rows[item.sample_id] for item in one.evaluation.items]
    assert torch.allclose(one.leave_one_out(), other.leave_one_out()[order], atol=1e-8)


def test_leave_one_out_is_what_a_head_without_the_sample_says() -> None:
    task = learner()
    known = [*examples("a", 70, spread=2.0), *examples("b", 66, spread=2.0), *examples("c", 90, spread=2.0)]
    teach(task, known, [], bulk=True)
    scores = task.leave_one_out()
    for row in (0, 5, 100, 200):
        item = task.evaluation.items[row]
        rest = [e for e in known if e.sample_id != item.sample_id]
        own = next(e for e in known if e.sample_id == item.sample_id)
        fresh = learner()
        fresh.restore(dict.fromkeys(task.labels, 0))
        teach(fresh, rest, [], bulk=True)
        expected = fresh.stacked.scores(stacked([own], fresh.heads))[0]
        assert torch.allclose(scores[row], expected, atol=1e-9)


def test_a_proposal_changes_nothing() -> None:
    task = learner()
    known = teach(task, [*examples("a", 10), *examples("b", 10)], [])
    before = (weights_of(task), inverses(task), task.leave_one_out().clone(), list(task.counts))
    for bulk in (False, True):
        task.propose(ModelChange(adds=examples("new", 3), removes=known[:2]), bulk=bulk)
    task.propose_settings(Hyperparameters({"semantic": 3.0, "lexical": 0.3}, Stacking(0.1, 0.9, 0.1), 0.7, 20))
    assert task.labels == ["a", "b"]
    assert before[3] == task.counts
    assert len(task.evaluation) == len(known)
    assert difference(weights_of(task), before[0]) == 0
    assert difference(inverses(task), before[1]) == 0
    assert torch.equal(task.leave_one_out(), before[2])


def test_a_proposal_to_a_model_that_has_changed_since_is_refused() -> None:
    task = learner()
    teach(task, [*examples("a", 10), *examples("b", 10)], [])
    for proposal in (task.propose(ModelChange(adds=examples("c", 3))), task.propose_settings().at(0.7)):
        teach(task, examples(f"d{proposal.temperature}", 1), [])
        with pytest.raises(ValueError, match="has changed since"):
            task.apply(proposal)


def test_a_candidate_is_judged_as_it_is_after_it_is_applied() -> None:
    task = learner()
    teach(task, [*examples("a", 40), *examples("b", 40)], [])
    candidate = task.propose(ModelChange(adds=examples("c", 5)))
    promised = candidate.paired.candidate.clone()
    items = [item.sample_id for item in candidate.paired.items]
    task.apply(candidate)
    assert [item.sample_id for item in task.evaluation.items] == items
    assert torch.allclose(task.leave_one_out(), promised, atol=1e-9)


def test_a_new_class_with_five_samples_is_not_drowned() -> None:
    task = learner()
    teach(task, [*examples("a", 100, spread=2.5), *examples("b", 100, spread=2.5)], [], bulk=True)
    teach(task, examples("young", 5, spread=2.5), [])
    fresh = examples("young", 200, seed=9, spread=2.5)
    features = stacked(fresh, task.heads)
    recall = float((task.stacked.scores(features).argmax(1) == task.labels.index("young")).double().mean())
    plain = learner(balance=ClassBalance(1, 0.0))
    teach(
        plain,
        [*examples("a", 100, spread=2.5), *examples("b", 100, spread=2.5), *examples("young", 5, spread=2.5)],
        [],
        bulk=True,
    )
    drowned = float((plain.stacked.scores(features).argmax(1) == 2).double().mean())
    assert recall > drowned + 0.1


def test_a_label_without_samples_is_never_answered() -> None:
    task = learner()
    known = teach(task, [*examples("a", 5), *examples("b", 5), *examples("c", 1)], [])
    teach(task, [], known, [e for e in known if e.label == "c"])
    assert task.counts == [5, 5, 0]
    assert task.offsets(task.counts)[2] == NEVER
    assert not (task.leave_one_out().argmax(1) == 2).any()


def test_the_panel_is_bounded_balanced_and_keeps_the_held_out() -> None:
    task = learner(evaluation_limit=30)
    known: list[LabelledFeatures] = []
    for start in range(5):
        known = teach(task, [*examples("a", 40, seed=start), *examples("b", 2, seed=start)], known)
    assert len(task.evaluation) == 30
    sizes = [sum(item.class_index == index for item in task.evaluation.items) for index in (0, 1)]
    assert sizes == [20, 10]
    assert all(item.heldout for item in task.evaluation.items if item.class_index == 0)
    other = learner(evaluation_limit=30)
    teach(other, list(reversed(known)), [], bulk=True)
    assert {i.sample_id for i in other.evaluation.items} == {i.sample_id for i in task.evaluation.items}


def test_samples_an_encoder_was_trained_on_do_not_judge() -> None:
    task = learner()
    seen = [
        LabelledFeatures(e.sample_id, e.label, e.weight, e.features, e.order, eligible=False) for e in examples("a", 10)
    ]
    teach(task, [*seen, *examples("b", 10)], [])
    assert task.counts == [10, 10]
    assert {item.class_index for item in task.evaluation.items} == {1}


def test_golden_samples_judge_and_are_never_learned() -> None:
    task = learner()
    teach(task, [*examples("a", 20), *examples("b", 20)], [])
    weights = weights_of(task)
    golden = [
        LabelledFeatures(f"g{e.sample_id}", e.label, 1.0, e.features, e.order, golden=True)
        for e in examples("a", 5, seed=7)
    ]
    task.add_to_evaluation(golden)
    assert difference(weights_of(task), weights) == 0
    rows = [row for row, item in enumerate(task.evaluation.items) if item.golden]
    assert len(rows) == 5
    plain = task.stacked.scores(stacked(golden, task.heads))
    assert torch.allclose(task.leave_one_out()[rows], plain, atol=1e-9)


def test_lambda_and_temperature_are_chosen_on_the_panel_and_all_stays_exact() -> None:
    task = learner(regularisation=10.0)
    known = teach(task, [e for label in "abcdef" for e in examples(label, 30, spread=2.5)], [], bulk=True)
    chosen = choose(task)
    assert chosen is not None
    assert task.hyperparameters == Hyperparameters({"semantic": 10.0, "lexical": 10.0}, STACKED, 0.1, 0)
    task.apply(task.propose_settings(chosen))
    assert task.hyperparameters == chosen
    assert chosen.samples == len(known)
    assert difference(weights_of(task), direct_weights(task, known)) <= 1e-9
    assert choose(task, stop=lambda: True) is None
    assert task.temperature == pytest.approx(choose_temperature(task), rel=1e-3)
    scores = task.leave_one_out()
    targets = task.evaluation.targets

    def loss(t: float) -> float:
        return float(torch.nn.functional.cross_entropy(scores / t, targets))

    assert loss(chosen.temperature) <= min(loss(chosen.temperature * 1.3), loss(chosen.temperature / 1.3)) + 1e-4


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_a_samples_weight_counts(weight: float) -> None:
    task = learner()
    samples = examples("a", 70) + examples("b", 70)
    samples[3] = LabelledFeatures(samples[3].sample_id, "a", weight, samples[3].features, samples[3].order)
    teach(task, samples, [])
    assert difference(weights_of(task), direct_weights(task, samples)) <= 1e-9


def inverses(task: TaskModel) -> dict[HeadName, torch.Tensor]:
    return {name: head.inverse.clone() for name, head in task.heads.items()}
