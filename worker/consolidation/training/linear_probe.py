"""Linear probing: heads that are fitted to the encoder as it is, to start the fine-tuning from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pawl.domain.samples import Sample
from pawl.ports import Floats
from worker.consolidation.data.examples import LabelSpaces
from worker.consolidation.training.losses import weighted_cross_entropy

_PENALTY = 0.5  # with the mean over n: sum of cross entropies + 0.5 |W|^2 / 2, scikit-learn's C = 2
_STEPS = 100


def probe(z: Floats, labels: Sequence[int], weights: Sequence[float], classes: int) -> nn.Linear:
    """A head fitted to the encoder as it is: weighted multinomial logistic regression by L-BFGS.

    Starting there keeps the first steps from wrecking the encoder to make up for a random head (linear probing, then
    fine-tuning: Kumar et al., ICLR 2022). The columns of labels without a sample start at zero. `z` is (n, d).
    """
    head = nn.Linear(z.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    inputs, targets = torch.from_numpy(z), torch.tensor(labels)
    shares = torch.tensor(weights, dtype=torch.float32)
    shares = shares / shares.sum()
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        penalty = _PENALTY / len(labels) * head.weight.square().sum() / 2
        loss = weighted_cross_entropy(head(inputs), targets, shares) + penalty
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]  # torch does not annotate it
    return head


def fitted_heads(samples: Sequence[Sample], z: Floats, spaces: LabelSpaces) -> list[nn.Linear]:
    """A head for each task, fitted to the samples' embeddings z, shape (n, d)."""
    heads: list[nn.Linear] = []
    for task, columns in spaces.items():
        rows = np.array([row for row, sample in enumerate(samples) if sample.task == task])
        chosen = [samples[row] for row in rows]
        labels, weights = [columns[sample.label] for sample in chosen], [sample.weight for sample in chosen]
        heads.append(probe(z[rows], labels, weights, len(columns)))
    return heads
