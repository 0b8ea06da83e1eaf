"""Changed copies of what is trained on, made on the device in each step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def drop_tokens(mask: Tensor, share: float) -> Tensor:
    """The mask, (B, T), without about `share` of its tokens: word dropout (Iyyer et al., ACL 2015).

    A token left out is neither attended to nor pooled. The first one stays, so that no text is left without any.
    """
    kept = torch.rand(mask.shape, device=mask.device) >= share
    kept[:, 0] = True
    return mask * kept


@dataclass(frozen=True, slots=True)
class Mixture:
    """Pairs of rows and the share of the first in each: mixup (Zhang et al., ICLR 2018).

    On the embeddings of sentences, not on inputs (Guo et al., "Augmenting data with mixup for sentence
    classification", 2019). One share for the whole batch, as in the authors' code.
    """

    share: float
    partners: Tensor

    @staticmethod
    def draw(rows: int, alpha: float, device: torch.device) -> Mixture:
        """A share from Beta(alpha, alpha) and a partner for each row. Drawn on the CPU: the GPU need not wait."""
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        return Mixture(share, torch.randperm(rows).to(device, non_blocking=True))

    def of(self, z: Tensor) -> Tensor:
        """Share * z_i + (1 - share) * z_partner(i), shape (n, d)."""
        return self.share * z + (1.0 - self.share) * z[self.partners]
