"""Overlap: texts of older labels that go to a label which is new in a batch. It is reported, and no harm (ADR 0023)."""

from __future__ import annotations

import numpy as np

from pawl.domain.gate_reports import Overlap, TaskReport
from pawl.settings import Settings
from worker.model.exact_tests import McNemar
from worker.model.proposal import PairedScores
from worker.release.outcomes import Outcomes


def overlaps(paired: PairedScores, outcomes: Outcomes) -> list[Overlap]:
    """Which new label answers how many texts of which older one that were answered rightly; most taken first."""
    was, now = outcomes.plain
    targets, labels, lost = outcomes.targets, paired.labels, was & ~now
    answers = paired.candidate.argmax(1).cpu().numpy()
    pairs = []
    for new in paired.fresh:
        of_new = targets == new
        taken = np.bincount(targets[lost & (answers == new)], minlength=len(labels))
        for old in np.flatnonzero(taken).tolist():
            names, numbers = (labels[new], labels[old]), (int(taken[old]), int((targets == old).sum()))
            gained = int(now[of_new].sum())
            pairs.append(Overlap(*names, *numbers, gained, int(of_new.sum()), _same_thing(*names, *numbers)))
    return sorted(pairs, key=lambda pair: -pair.taken)


def _same_thing(label: str, old_label: str, taken: int, items: int) -> str:
    return f"{label} takes {taken} of {items} texts of {old_label}: the same thing? `pawl labels merge`"


def excessive_overlaps(report: TaskReport, settings: Settings) -> dict[str, str]:
    """New labels that take more from older ones than their own texts are worth -> the sentence that says so.

    What a label takes counts once it is more than chance (as many lost and none gained) and more than the settings let
    any candidate lose, overall or in one class; then its own gain must be significantly more than what it takes.
    """
    sentences = {}
    for label in dict.fromkeys(pair.label for pair in report.overlaps):
        pairs = [pair for pair in report.overlaps if pair.label == label]
        worst, taken, gained = pairs[0], sum(pair.taken for pair in pairs), pairs[0].gained
        too_much = taken > settings.gate_max_drop * report.known.items or any(
            pair.taken > settings.gate_max_class_drop * pair.items for pair in pairs
        )
        is_loss = too_much and McNemar(lost=taken, gained=0).p_worse < settings.gate_alpha
        if is_loss and McNemar(lost=taken, gained=gained).p_better >= settings.gate_alpha:
            before = next(each for each in report.classes if each.label == worst.old_label)
            sentences[label] = (
                f"class {worst.old_label!r} falls from {before.live:.3f} to "
                f"{before.live - worst.taken / worst.items:.3f}, and {label!r} is right on {gained} of its own "
                f"{worst.own} texts only: {worst.sentence}"
            )
    return sentences
