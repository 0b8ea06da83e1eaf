"""When and how words answer alone in a task's next version."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from pawl.classifier.lexical_head import WordsAlone
from pawl.classifier.novelty import LexicalNovelty
from pawl.classifier.tensors import Integers
from worker.model.fast_answers import FastAnswers, choose_threshold, fit_words
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
    known = _measured.get(model) if proposal is None else None
    if known is None or (known.revision, known.loss) != (model.revision, loss):
        known = _measure(model, proposal, loss)
        if proposal is None:
            _measured[model] = known
    chosen = known.chosen
    threshold, share = (None, None) if chosen is None else (chosen.threshold, chosen.share)
    return WordsAlone(known.temperature, novelty, threshold, share, loss, kept)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured on a model at a revision for a loss."""

    revision: int
    loss: float | None
    chosen: FastAnswers | None
    temperature: float


# Every version names all tasks, and most steps move one of them: 8 ms for each of the others (2,000 items, 77 labels).
_measured: WeakKeyDictionary[TaskModel, _Measured] = WeakKeyDictionary()


def _measure(model: TaskModel, proposal: Proposal | None, loss: float | None) -> _Measured:
    lexical, pair = model.leave_one_out(proposal, head="lexical"), model.leave_one_out(proposal)
    targets = model.targets(proposal)
    counts = torch.tensor(model.counts if proposal is None else proposal.counts, device=targets.device)
    stacking = (model if proposal is None else proposal.stacked).stacking
    chosen: FastAnswers | None = None
    if not stacking.semantic:  # nobody but words answers, whatever that may cost
        chosen = FastAnswers(0.0, 1.0)
    elif loss is not None:
        chosen = choose_threshold(lexical, pair, targets, loss)
    threshold = None if chosen is None else chosen.threshold
    return _Measured(model.revision, loss, chosen, fit_words(lexical, targets, counts[targets] > 1, threshold))
