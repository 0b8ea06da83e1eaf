"""Overlap: texts of older labels that go to a label which is new in a batch. No harm but a trade (ADR 0023)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pawl.domain.gate_reports import Overlap, TaskReport
from pawl.settings import Settings
from worker.model.exact_tests import McNemar
from worker.model.proposal import PairedScores

Bools = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


def overlaps(
    paired: PairedScores, targets: npt.NDArray[np.int64], was: Bools, now: Bools, candidate: Scores
) -> list[Overlap]:
    """Which new label answers how many texts of which older one that were answered rightly."""
    lost = was & ~now
    answers = candidate.argmax(1)
    found = []
    for new in paired.fresh:
        own = targets == new
        taken = np.bincount(targets[lost & (answers == new)], minlength=len(paired.labels))
        gained, of_own = int(now[own].sum()), int(own.sum())
        for old in np.flatnonzero(taken).tolist():
            names, numbers = (paired.labels[new], paired.labels[old]), (int(taken[old]), int((targets == old).sum()))
            found.append(Overlap(*names, *numbers, gained, of_own, _same_thing(*names, *numbers)))
    return sorted(found, key=lambda one: -one.taken)


def _same_thing(label: str, old_label: str, taken: int, items: int) -> str:
    return f"{label} takes {taken} of {items} texts of {old_label}: the same thing? `pawl labels merge`"


def bad_trades(report: TaskReport, settings: Settings) -> dict[str, str]:
    """New labels that take more from older ones than their own texts are worth -> the sentence that says so.

    What one takes counts once it is more than chance (as many lost and none gained) and more than the settings let any
    candidate lose, overall or in one class; then its own gain must be significantly more than what it takes.
    """
    found = {}
    for label in dict.fromkeys(one.label for one in report.overlaps):
        trades = [one for one in report.overlaps if one.label == label]
        taken, gained = sum(one.taken for one in trades), trades[0].gained
        too_much = taken > settings.gate_max_drop * report.known.items or any(
            one.taken > settings.gate_max_class_drop * one.items for one in trades
        )
        is_loss = too_much and McNemar(lost=taken, gained=0).p_worse < settings.gate_alpha
        if is_loss and McNemar(taken, gained).p_better >= settings.gate_alpha:
            worst = trades[0]
            before = next(one for one in report.classes if one.label == worst.old_label)
            found[label] = (
                f"class {worst.old_label!r} falls from {before.live:.3f} to "
                f"{before.live - worst.taken / worst.items:.3f}, and {label!r} is right on {gained} of its own "
                f"{worst.own} texts only: {worst.sentence}"
            )
    return found
