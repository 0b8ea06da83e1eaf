"""How much a correction must weigh for its label to be the answer to its own text.

A head that learns one more sample of total weight w and leverage h = phi^T A^-1 phi moves its scores for that sample to

    s' = s + k (y - s),    k = w h / (1 + w h)          (the rank-1 step of worker/model/ridge.py, seen at its own row)

so label y beats label c, offsets o and a margin m included, when

    k >= (s_c + o_c - s_y - o_y + m) / (1 - s_y + s_c),

and the smallest weight that does it is w = k / ((1 - k) h) for the largest such k. Where thousands of samples lie close
by h is small, and a correction of weight 1 is outvoted: it takes hold only with its emphasis, a limited multiple.
"""

from __future__ import annotations

import torch

from worker.model.change import ModelChange
from worker.model.class_balance import ClassBalance, LabelSpace
from worker.model.ridge import RidgeHead

Tensor = torch.Tensor
MARGIN = 0.05
"""By how much the right label must lead, in units of the score (targets are 0 and 1)."""
_CLOSEST = 0.999
"""Largest k."""


def emphasis_of(
    change: ModelChange, head: RidgeHead, leverages: Tensor, space: LabelSpace, balance: ClassBalance, limit: float
) -> dict[str, float]:
    """By sample id the multiple, in (1, limit], of a correction's weight that makes its label the answer.

    Each is worked out as if it came alone. The leaving of an older label for the same text is not counted in, which
    errs on the side of the new label.

    Args:
        change: what is about to be learned, with the corrections among it.
        head: the live head.
        leverages: of `change.adds`, under the head; there may be others behind them.
        space: the labels, which may be more than those of the head, and their counts after the change.
        balance: what each sample weighs without emphasis, and the prior corrections.
        limit: the largest emphasis.
    """
    places = [row for row, example in enumerate(change.adds) if example.sample_id in change.corrections]
    if not places or limit <= 1.0:
        return {}
    chosen = [change.adds[row] for row in places]
    columns = [space.index[example.label] for example in chosen]
    levels = [balance.class_weight(space.counts[column]) for column in columns]
    features = torch.stack([example.features for example in chosen]).to(head.weights)
    targets = torch.tensor(columns, device=head.device)
    weights = torch.tensor([example.weight * level for example, level in zip(chosen, levels, strict=True)]).to(features)
    # A label that the head does not have yet has weights of 0, and so a score of 0.
    scores = torch.nn.functional.pad(features @ head.weights, (0, len(space.labels) - head.classes))
    offsets = balance.offsets(space.counts, head.weights)
    wanted = scores.gather(1, targets[:, None])  # s_y
    lead = scores + offsets - wanted - offsets[targets][:, None] + MARGIN
    room = (1.0 - wanted + scores).clamp(min=1e-6)
    # The largest k over all labels but y, whose own column is nulled; k near 1 would ask for an infinite weight.
    shares = (lead / room).scatter(1, targets[:, None], 0.0).amax(1).clamp(0.0, _CLOSEST)
    needed = shares / ((1.0 - shares) * leverages[places].clamp(min=1e-9))
    factors = (needed / weights).clamp(1.0, limit).tolist()
    return {example.sample_id: factor for example, factor in zip(chosen, factors, strict=True) if factor > 1.0}
