"""Token dropout: in each step a share of the tokens is hidden. The one form of augmentation.

Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification", ACL 2015.

Off by default. Measured 2026-11-25 (docs/log.md), a share of 0.1 against the defaults: FinancialPhraseBank 81.27
instead of 81.78 % (8 gained, 12 lost), Banking77 87.42 instead of 87.29 (19 and 15), CLINC150 92.80 instead of 92.97
(14 and 19): no effect beyond chance. Mixup lost more than it gained (Banking77: 7 and 17, p = 0.06).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from pawl.settings import Settings
from worker.consolidation.data.batches import TrainingBatch
from worker.consolidation.training.methods.method import Method


class TokenDropout(Method):
    """Hides about `share` of the tokens of each text."""

    def __init__(self, share: float) -> None:
        self._share = share

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """`PAWL_TOKEN_DROPOUT`."""
        return cls(settings.token_dropout) if settings.token_dropout else None

    def on_batch(self, batch: TrainingBatch, /) -> TrainingBatch:
        """The batch with other tokens hidden each time."""
        return replace(batch, mask=drop_tokens(batch.mask, self._share))


def drop_tokens(mask: Tensor, share: float) -> Tensor:
    """The mask, (B, T), without about `share` of its tokens.

    A token left out is neither attended to nor pooled. The first one stays, so that no text is left without any.
    """
    # From the generator that `Trainer` has seeded.
    kept = torch.rand(mask.shape, device=mask.device) >= share
    kept[:, 0] = True
    return mask * kept
