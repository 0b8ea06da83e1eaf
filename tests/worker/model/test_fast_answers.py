"""The cascade: the threshold costs no more than was allowed, and is not optimistic where there are few items."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pawl.classifier.calibration import expected_calibration_error, softmax
from worker.model.fast_answers import ENOUGH, choose_threshold, fit_words, margins_of

Tensor = torch.Tensor


def scores_of(targets: Tensor, right: Tensor, margins: Tensor, classes: int = 4) -> Tensor:
    """Scores (m, C) whose best column is the target where `right`, else the next one, by these margins."""
    best = torch.where(right, targets, (targets + 1) % classes)
    return torch.nn.functional.one_hot(best, classes).double() * margins[:, None]


def world(seed: int, items: int, *, tied: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Words that are wrong more often where their margin is small, a pair that is right more often, and targets."""
    numbers = torch.Generator().manual_seed(seed)
    targets = torch.randint(4, (items,), generator=numbers)
    margins = torch.rand(items, generator=numbers).double()
    if tied:
        margins = (margins * 8).ceil() / 8
    words = torch.rand(items, generator=numbers).double() < 0.6 + 0.4 * margins
    pair = words | (torch.rand(items, generator=numbers) < 0.5)
    pair &= torch.rand(items, generator=numbers) < 0.97
    return scores_of(targets, words, margins), scores_of(targets, pair, torch.ones(items)), targets


@given(st.integers(0, 10**6), st.integers(1, 3000), st.sampled_from((0.0, 0.1, 1.0, 5.0)), st.booleans())
def test_the_cascade_loses_at_most_what_was_allowed(seed: int, items: int, loss: float, tied: bool) -> None:
    lexical, pair, targets = world(seed, items, tied=tied)
    chosen = choose_threshold(lexical, pair, targets, loss)
    if chosen is None:
        return
    by_words = margins_of(lexical) >= chosen.threshold
    assert chosen.share == float(by_words.double().mean())
    right = torch.where(by_words, lexical.argmax(1), pair.argmax(1)) == targets
    lost = int((pair.argmax(1) == targets).sum()) - int(right.sum())
    assert lost <= loss / 100 * items + 1e-6
    assert int(by_words.sum()) <= items * min(items, ENOUGH) / ENOUGH  # few items: a small share of them


def test_more_loss_answers_more_by_words() -> None:
    lexical, pair, targets = world(1, 2000)
    chosen = [choose_threshold(lexical, pair, targets, loss) for loss in (0.0, 0.5, 2.0, 10.0)]
    shares = [each.share for each in chosen if each is not None]
    assert shares == sorted(shares)
    assert len(shares) == 4
    assert 0 < shares[0] < shares[-1] == 1.0


def test_a_threshold_chosen_on_few_items_is_not_optimistic() -> None:
    truth = world(0, 200_000)
    pair = truth[1].argmax(1) == truth[2]
    lost = []
    for seed in range(20):
        chosen = choose_threshold(*world(seed, 100), 0.0)
        if chosen is not None:
            by_words = margins_of(truth[0]) >= chosen.threshold
            lost.append(float((pair.double() - (truth[0].argmax(1) == truth[2]).double())[by_words].sum()) / len(pair))
    assert len(lost) > 10
    assert sum(lost) / len(lost) < 0.001  # a tenth of a point; 1 / m is a whole one


def test_where_words_are_never_as_good_there_is_no_threshold() -> None:
    lexical, pair, targets = world(0, 2000)
    assert choose_threshold(lexical[:0], pair[:0], targets[:0], 0.0) is None
    assert choose_threshold(lexical[:, :1], pair[:, :1], targets * 0, 0.0) is None
    wrong = scores_of(targets, torch.zeros(2000, dtype=torch.bool), torch.ones(2000))
    assert choose_threshold(wrong, pair, targets, 0.0) is None


def test_what_words_answer_is_calibrated() -> None:
    lexical, pair, targets = world(3, 4000)
    chosen = choose_threshold(lexical, pair, targets, 2.0)
    assert chosen is not None
    temperature = fit_words(lexical, targets, torch.ones(4000, dtype=torch.bool), chosen.threshold)
    answered = margins_of(lexical) >= chosen.threshold
    shares = softmax(lexical[answered].numpy() / temperature)
    assert expected_calibration_error(shares, targets[answered].numpy()) < 0.06
