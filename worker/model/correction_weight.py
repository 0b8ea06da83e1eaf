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

from worker.model.ridge import RidgeHead

Tensor = torch.Tensor
MARGIN = 0.05
"""By how much the right label must lead, in units of the score (targets are 0 and 1)."""
_CLOSEST = 0.999


def needed_emphasis(
    head: RidgeHead,
    features: Tensor,
    leverages: Tensor,
    targets: Tensor,
    weights: Tensor,
    offsets: Tensor,
    limit: float,
) -> Tensor:
    """Emphasis (k,), each in [1, limit], of samples that are about to be learned.

    Each is worked out as if it came alone. The leaving of an older label for the same text is not counted in, which
    errs on the side of the new label.

    Args:
        head: the live head.
        features: (k, p).
        leverages: (k,), under the head.
        targets: (k,) int64, columns.
        weights: (k,), what each would weigh without emphasis.
        offsets: (C,), the prior correction after the change; C may be larger than the head's.
        limit: the largest emphasis.
    """
    features, weights = features.to(head.device, head.dtype), weights.to(head.device, head.dtype)
    scores = torch.nn.functional.pad(features @ head.weights, (0, len(offsets) - head.classes))
    own = scores.gather(1, targets[:, None])
    lead = scores + offsets - own - offsets[targets][:, None] + MARGIN
    room = (1.0 - own + scores).clamp(min=1e-6)
    shares = (lead / room).scatter(1, targets[:, None], 0.0).amax(1).clamp(0.0, _CLOSEST)
    needed = shares / ((1.0 - shares) * leverages.clamp(min=1e-9))
    return (needed / weights).clamp(1.0, limit)
