"""How unusual known texts were before they were known: what the novelty of new ones is ranked against.

Strangeness is a log h - max_c s_c (`pawl/classifier/novelty.py`). For a known text of weight w both parts are what
they would be without it: its leave-one-out scores (`worker/model/evaluation_set.py`), and

    h_loo = h / (1 - w h),    h = z^T (sum w z z^T + lambda I)^-1 z    (Sherman & Morrison 1950)

so the ranks of new texts of the same kind are near to uniform, however few are known.
"""

from __future__ import annotations

import torch

from pawl.classifier.novelty import QUANTILES, LexicalNovelty, Novelty
from pawl.ports import Floats
from worker.model.proposal import Proposal, RankKStep, Replacement
from worker.model.task_model import TaskModel

Tensor = torch.Tensor

LEVERAGE_WEIGHT = 0.3
"""a; chosen with lambda on CLINC150 validation, where 0.2 to 0.5 and 0.1 to 10 are as good (`docs/log.md`)."""
# lambda of A below; 0.1 and 10 do as well (docs/log.md).
_REGULARISATION = 1.0
_ROWS = 256  # of words that are squared at a time: 8 MB each of 4,096 columns
LOWEST = -1.0
"""A text of a label that no other text has: its best score without itself is that of labels it cannot have."""


def novelty_of(model: TaskModel, dimension: int, proposal: Proposal | None = None) -> Novelty:
    """How unusual a text is to a task's heads, or to proposed ones, by the first numbers of z and the stacked scores.

    Without a semantic head z has no numbers, and the scores alone say it.
    """
    form, chosen, weights = _known(model, proposal)
    gram, z = weights.new_zeros(0, 0), weights.new_zeros(len(weights), 0)
    if "semantic" in model.heads:
        # The Gram matrix of z_0 is the corner of that of phi, which begins with z_0: nothing of its own is kept.
        gram = form.corner("semantic", dimension, model.heads)
        z = form.features("semantic", dimension, model.evaluation)[chosen]
    return measure(gram, z, weights, model.leave_one_out(proposal))


def lexical_novelty_of(model: TaskModel, proposal: Proposal | None = None) -> LexicalNovelty:
    """How unusual the words of a text are to a task's lexical head, or to a proposed one."""
    form, chosen, weights = _known(model, proposal)
    features = form.features("lexical", model.heads["lexical"].dimension, model.evaluation)[chosen]
    diagonal = form.diagonal("lexical", model.heads)
    return measure_words(diagonal, features, weights, model.leave_one_out(proposal, head="lexical"))


def _known(model: TaskModel, proposal: Proposal | None) -> tuple[RankKStep | Replacement, slice | Tensor, Tensor]:
    """What makes the heads, which of its rows stay in the evaluation set, and the weights of those, (m,)."""
    form = Replacement(model.heads, model.evaluation) if proposal is None else proposal.form
    counts = model.counts if proposal is None else proposal.counts
    rows, _, stay = form.judged(len(counts))
    chosen = slice(None) if stay is None else stay
    return form, chosen, model.balance.item_weights(rows, counts, stay)[chosen]


def measure_words(diagonal: Tensor, features: Tensor, weights: Tensor, scores: Tensor) -> LexicalNovelty:
    """The novelty of a task's words, and the quantiles of known texts as if unknown.

    Args:
        diagonal: of the Gram matrix, (p,).
        features: of known texts, (m, p).
        weights: with which each of these is in the Gram matrix, (m,); 0 where it is not.
        scores: their leave-one-out scores by the lexical head, (m, C).
    """
    total, weights, scores = (1.0 + diagonal.double()).cpu(), weights.double().cpu(), scores.double().cpu()
    rarities = scores.new_ones(len(scores))
    for start in range(0, len(scores), _ROWS):
        part = slice(start, start + _ROWS)
        squares = features[part].double().cpu().square()
        # Without the text itself in it: 1 is left at least.
        others = (total - squares * weights[part, None]).clamp(min=1.0)
        rarities[part] = torch.where(squares.sum(1) > 0, (squares / others).sum(1), 1.0)
    strangeness = rarities.log() - scores.amax(1).clamp(min=LOWEST)
    return LexicalNovelty(total.clamp(min=1.0).reciprocal().float().numpy(), _quantiles(strangeness))


def _quantiles(strangeness: Tensor) -> Floats:
    """The 0th, 1st, ... 100th percentile, (101,)."""
    if not len(strangeness):  # nothing to rank against: only what is like nothing at all is novel
        strangeness = torch.zeros(1, dtype=torch.float64)
    quantiles: Floats = (
        torch.quantile(strangeness, torch.linspace(0, 1, QUANTILES, dtype=torch.float64)).float().numpy()
    )
    return quantiles


def measure(gram: Tensor, z: Tensor, weights: Tensor, scores: Tensor) -> Novelty:
    """The novelty of a task's texts: its factor for new texts, and the quantiles of known ones as if unknown.

    Args:
        gram: sum w z z^T over the task's texts, (d_0, d_0) float64.
        z: of those that are known and judge, (m, d_0).
        weights: with which each of these is in `gram`, (m,); 0 where it is not.
        scores: their leave-one-out scores, (m, C).
    """
    # float64: 1 - w h, which is divided by, is a difference of nearly equal numbers where a text stands alone.
    gram, z, weights, scores = (tensor.double().cpu() for tensor in (gram, z, weights, scores))
    identity = torch.eye(len(gram), dtype=torch.float64)
    lower = torch.linalg.cholesky(gram + _REGULARISATION * identity)
    # F = L^-T with L L^T = A, so that F F^T = A^-1 and h = |F^T z|^2: serving needs one product and no solving.
    factor = torch.linalg.solve_triangular(lower, identity, upper=False).T
    present = (z @ factor).square().sum(1)  # h, with the text itself in the Gram matrix
    leverages = present / (1.0 - weights * present).clamp(min=1e-9)
    strangeness = LEVERAGE_WEIGHT * leverages.clamp(min=1e-12).log() - scores.amax(1).clamp(min=LOWEST)
    return Novelty(factor.float().numpy(), _quantiles(strangeness), LEVERAGE_WEIGHT)
