"""Predictions as they were answered. Frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pawl.domain.reading import TextReading

AnsweredBy = Literal["words", "meaning", "both"]
"""Which heads spoke: the lexical one alone, the semantic one alone, or both, stacked."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label and its calibrated probability in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a classifier says of one text: its best labels, best first, and how unusual the text is.

    `novelty` is in [0, 1]: the share of the task's known texts that were less unusual than this one, each before it was
    known itself. `by` says which heads spoke, `warnings` what the encoder could not read of the text.
    """

    scores: tuple[LabelScore, ...]
    novelty: float
    by: AnsweredBy = "meaning"
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The best label."""
        return self.scores[0].label

    @property
    def score(self) -> float:
        """The probability of the best label."""
        return self.scores[0].score


def with_warnings(answers: list[Answer], readings: Sequence[TextReading]) -> list[Answer]:
    """The answers, in the same order, with what is to be said of the few whose texts could not all be read."""
    for place, reading in enumerate(readings):
        if (reading.unknown or reading.cut is not None) and (warnings := reading.warnings):
            answers[place] = replace(answers[place], warnings=warnings)
    return answers


@dataclass(frozen=True, slots=True)
class Prediction:
    """One logged answer; feedback can refer to it by `id` until retention removes it."""

    id: str
    version: int
    task: str
    text: str
    label: str
    score: float
    by: AnsweredBy
    created_at: datetime
