"""How much a correction must weigh for its label to be the answer to its own text.

A head that learns one more sample of total weight w and leverage h = phi^T A^-1 phi moves its scores for that sample to

    s' = s + k (y - s),    k = w h / (1 + w h)          (the rank-1 step of worker/model/ridge.py, seen at its own row)

so in heads that are stacked with shares a, b, offsets o and a margin m included, label y beats label c when

    sum over heads of a (s_y - s_c + k (1 - s_y + s_c)) + o_y - o_c >= m.

Every k grows with w, and so does the left side: the smallest weight that does it is found by bisection. Where thousands
of samples lie close by h is small, and a correction of weight 1 is outvoted: it takes hold only with its emphasis, a
limited multiple.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pawl.domain.versions import HeadName
from worker.model.change import ModelChange, stacked
from worker.model.class_balance import ClassBalance, LabelSpace
from worker.model.stacked_head import StackedHead, stack

Tensor = torch.Tensor
MARGIN = 0.05
"""By how much the right label must lead, in units of the score (targets are 0 and 1)."""
_HALVINGS = 50
"""Steps of the bisection; each halves the relative error, and 2^-50 of the limit is below float64's own."""


def emphasis_of(
    change: ModelChange,
    live: StackedHead,
    leverages: Mapping[HeadName, Tensor],
    space: LabelSpace,
    balance: ClassBalance,
    limit: float,
) -> dict[str, float]:
    """By sample id the multiple, in (1, limit], of a correction's weight that makes its label the answer.

    Each is worked out as if it came alone. The leaving of an older label for the same text is not counted in, which
    errs on the side of the new label.

    Args:
        change: what is about to be learned, with the corrections among it.
        live: the live heads.
        leverages: of `change.adds`, under each head; there may be others behind them.
        space: the labels, which may be more than those of the live heads, and their counts after the change.
        balance: what each sample weighs without emphasis, and the prior corrections.
        limit: the largest emphasis.
    """
    places = [row for row, example in enumerate(change.adds) if example.sample_id in change.corrections]
    if not places or limit <= 1.0:
        return {}
    chosen = [change.adds[row] for row in places]
    columns = [space.index[example.label] for example in chosen]
    levels = [balance.class_weight(space.counts[column]) for column in columns]
    # A label that the heads do not have yet has weights of 0, and so a score of 0.
    live = live.widened(balance.offsets(space.counts, live.offsets))
    weights = torch.tensor([e.weight * level for e, level in zip(chosen, levels, strict=True)]).to(live.offsets)
    corrections = _Corrections(live, live.own_scores(stacked(chosen, live.weights)), leverages, places, columns)
    low, high = torch.ones_like(weights), torch.full_like(weights, limit)
    enough = corrections.leads(weights)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        does = corrections.leads(weights * middle)
        low, high = torch.where(does, low, middle), torch.where(does, middle, high)
    factors = torch.where(enough, 1.0, high).tolist()
    return {example.sample_id: factor for example, factor in zip(chosen, factors, strict=True) if factor > 1.0}


class _Corrections:
    """Corrections, n of them, and what each head says of them before it learns them."""

    def __init__(
        self,
        live: StackedHead,
        scores: Mapping[HeadName, Tensor],
        leverages: Mapping[HeadName, Tensor],
        places: list[int],
        columns: list[int],
    ) -> None:
        self._live = live
        self._leverages = {head: h[places].to(live.offsets) for head, h in leverages.items()}
        self._own = torch.tensor(columns, device=live.offsets.device)[:, None]
        # s_y - s_c of each head (n, C). Where it is above 1 a larger weight would take it back to 1: counted as 1 it
        # grows with k like the others, and no correction comes out too light.
        self._ahead = {head: (s.gather(1, self._own) - s).clamp(max=1.0) for head, s in scores.items()}
        self._prior = live.offsets[self._own] - live.offsets

    def leads(self, weights: Tensor) -> Tensor:
        """Whether each label would lead if its sample came with these weights (n,)."""
        after = {}
        for head, ahead in self._ahead.items():
            influence = weights * self._leverages[head].clamp(min=0.0)
            k = (influence / (1.0 + influence))[:, None]
            after[head] = ahead + k * (1.0 - ahead)
        lead = stack(self._live.stacking, after) + self._prior
        return lead.scatter(1, self._own, torch.inf).amin(1) >= MARGIN
