"""How the scores of a task's two heads are added: stacking with one number, "words".

    scores of the pair = a scores_semantic + b scores_lexical + offsets,    a, b >= 0,    a + b = 1

The heads' scores are brought to one scale by their standard deviations, then the lexical ones count `words` times.
Shares that add up to one leave the scores where ridge scores lie, around [0, 1]: margins, temperatures and novelty keep
their scale, and a head without the other is the case a = 1 or b = 1. (Wolpert 1992, "Stacked generalization", with one
weight for all classes, chosen on leave-one-out scores.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from pawl.domain.predictions import AnsweredBy
from pawl.domain.versions import HeadName, LexicalInfo


@dataclass(frozen=True, slots=True)
class Stacking:
    """How much each head of a task counts.

    words     w, how many times the lexical head counts once both have one scale.
    semantic  a, the semantic head's share.
    lexical   b, the lexical head's share.

    Raises:
        ValueError: A number is negative or not finite, or a + b is not 1.
    """

    words: float
    semantic: float
    lexical: float

    SEMANTIC: ClassVar[Stacking]
    """The semantic head alone."""
    LEXICAL: ClassVar[Stacking]
    """The lexical head alone."""

    def __post_init__(self) -> None:
        numbers = (self.words, self.semantic, self.lexical)
        if not all(0 <= number < math.inf for number in numbers) or abs(self.semantic + self.lexical - 1) > 1e-6:
            raise ValueError(f"words {self.words}: shares {self.semantic} and {self.lexical} of the two heads")

    @classmethod
    def of(cls, words: float, semantic_deviation: float, lexical_deviation: float) -> Stacking:
        """Returns a : b = 1 / semantic_deviation : words / lexical_deviation.

        The deviations are those of the heads' leave-one-out scores. A head whose scores do not vary says nothing, so
        the other one counts alone (of two such the semantic one).
        """
        if not words or not lexical_deviation:
            return cls(words, 1.0, 0.0)
        if not semantic_deviation:
            return cls(words, 0.0, 1.0)
        # b / a = words * semantic_deviation / lexical_deviation, so that no small deviation is divided by.
        lexical = words * semantic_deviation / (lexical_deviation + words * semantic_deviation)
        return cls(words, 1.0 - lexical, lexical)

    @classmethod
    def from_info(cls, info: LexicalInfo | None) -> Stacking:
        """The stacking that a manifest names; of a task without a lexical head that of the semantic head alone."""
        return cls.SEMANTIC if info is None else cls(info.words, info.semantic, info.lexical)

    def share(self, head: HeadName) -> float:
        """A or b."""
        return self.semantic if head == "semantic" else self.lexical

    @property
    def by(self) -> AnsweredBy:
        """Who speaks in an answer of the pair."""
        if not self.lexical:
            return "meaning"
        return "both" if self.semantic else "words"


Stacking.SEMANTIC = Stacking(0.0, 1.0, 0.0)
Stacking.LEXICAL = Stacking(1.0, 0.0, 1.0)
