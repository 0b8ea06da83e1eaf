"""Predictions as they were answered. Frozen values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label and its calibrated probability in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a classifier says of one text: its best labels, best first, and how unusual the text is.

    `novelty` is in [0, 1]: the share of the task's known texts that were less unusual than this one, each before it was
    known itself.
    """

    scores: tuple[LabelScore, ...]
    novelty: float

    @property
    def label(self) -> str:
        """The best label."""
        return self.scores[0].label

    @property
    def score(self) -> float:
        """The probability of the best label."""
        return self.scores[0].score


@dataclass(frozen=True, slots=True)
class Prediction:
    """One logged answer; feedback can refer to it by `id` until retention removes it."""

    id: str
    version: int
    task: str
    text: str
    label: str
    score: float
    created_at: datetime
