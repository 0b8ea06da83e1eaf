"""The heads of a task as one linear map: a weighted sum of their scores, and the prior corrections once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from worker.model.change import LabelledFeatures, stacked

Tensor = torch.Tensor
_CHUNK = 2048  # rows


def stack(stacking: Stacking, scores: Mapping[HeadName, Tensor]) -> Tensor:
    """The sum (n, C) of the heads' scores (n, C), each times its share; of one head alone its own scores."""
    total: Tensor | None = None
    for head, of_head in scores.items():
        weighed = of_head * stacking.share(head)
        total = weighed if total is None else total.add_(weighed)
    if total is None:
        raise ValueError("a task without heads has no scores")
    return total


@dataclass(frozen=True, slots=True)
class StackedHead:
    """score = sum over heads of share x phi W, + offsets.

    Args:
        weights: W (p, C) of each head. They are never written again: an update makes new ones.
        stacking: the share of each head.
        offsets: prior corrections (C,).
    """

    weights: Mapping[HeadName, Tensor]
    stacking: Stacking
    offsets: Tensor

    def own_scores(self, features: Mapping[HeadName, Tensor]) -> dict[HeadName, Tensor]:
        """The scores phi W (n, C) of each head for features (n, p), without shares and offsets."""
        return {head: features[head].to(weights) @ weights for head, weights in self.weights.items()}

    def scores(self, features: Mapping[HeadName, Tensor]) -> Tensor:
        """The scores (n, C) of the heads together."""
        return stack(self.stacking, self.own_scores(features)) + self.offsets

    def scores_for(self, examples: Sequence[LabelledFeatures]) -> Tensor:
        """As `scores`, for samples, of which there may be none; some at a time, for the features of many are large."""
        parts = [
            self.scores(stacked(examples[start : start + _CHUNK], self.weights))
            for start in range(0, len(examples), _CHUNK)
        ]
        return torch.cat(parts) if parts else self.offsets.new_zeros(0, len(self.offsets))

    def widened(self, offsets: Tensor) -> StackedHead:
        """With columns of zeros for labels that it does not have, up to the length of these offsets (C',)."""
        return StackedHead(
            {head: _padded(weights, len(offsets)) for head, weights in self.weights.items()}, self.stacking, offsets
        )


def _padded(weights: Tensor, classes: int) -> Tensor:
    missing = classes - weights.shape[1]
    return torch.nn.functional.pad(weights, (0, missing)) if missing else weights
