"""When and how words answer alone in a task's next version."""

from __future__ import annotations

import torch

from pawl.classifier.lexical_head import WordsAlone
from pawl.classifier.novelty import LexicalNovelty
from pawl.classifier.tensors import Integers
from worker.model.fast_answers import choose_threshold, fit_words
from worker.model.proposal import Proposal
from worker.model.task_model import TaskModel


def words_alone(
    model: TaskModel, proposal: Proposal | None, novelty: LexicalNovelty, loss: float | None, kept: Integers
) -> WordsAlone:
    """What the lexical head needs to answer without the semantic one, by the leave-one-out answers of both.

    Args:
        model: with a lexical head.
        proposal: its next heads; None for the present ones.
        novelty: how strange the words of a text are to them.
        loss: points of accuracy that answers by words may cost; None where there are to be none.
        kept: `kept_number` of the texts that words never answer alone, sorted.
    """
    lexical, pair = model.leave_one_out(proposal, head="lexical"), model.leave_one_out(proposal)
    targets = model.targets(proposal)
    counts = torch.tensor(model.counts if proposal is None else proposal.counts, device=targets.device)
    stacking = (model if proposal is None else proposal.stacked).stacking
    threshold: float | None = 0.0
    share: float | None = 1.0
    if stacking.semantic:  # else nobody but words answers, whatever that may cost
        chosen = None if loss is None else choose_threshold(lexical, pair, targets, loss)
        threshold, share = (None, None) if chosen is None else (chosen.threshold, chosen.share)
    temperature = fit_words(lexical, targets, counts[targets] > 1, threshold)
    return WordsAlone(temperature, novelty, threshold, share, loss, kept)
