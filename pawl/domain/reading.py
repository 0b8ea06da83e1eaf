"""How much of a text an encoder could read. Frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TRUNCATED = "truncated"
"""The warning of a text that has more tokens than the encoder takes: what comes after them was not seen."""
UNKNOWN_LANGUAGE = "unknown_language"
"""How the warning of a text begins whose tokens the encoder does not know."""
UNKNOWN_SHARE = 0.05
"""Share of unknown tokens above which an encoder does not know a language."""
_LEAST_UNKNOWN = 2
MULTILINGUAL = "multilingual"
"""The preset that reads what the English ones do not."""


@dataclass(frozen=True, slots=True)
class TextReading:
    """One text as an encoder read it.

    tokens   that stand for the text; special ones and those of the encoder's prompt are not counted.
    unknown  of these, the ones that its vocabulary does not have.
    cut      digest of all that was read, where the text has more of it: two texts with one are the same text to it.
    """

    tokens: int
    unknown: int
    cut: str | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever asked about this text should know.

        One unknown token in a short text is an emoji or a name, and no language: there must be two, or nothing known.
        """
        warnings = [TRUNCATED] if self.cut is not None else []
        counts = self.unknown >= _LEAST_UNKNOWN or 0 < self.unknown == self.tokens
        if counts and self.unknown > UNKNOWN_SHARE * self.tokens:
            warnings.append(unknown_language(self.unknown / self.tokens))
        return tuple(warnings)


@dataclass(slots=True)
class ReadingTotals:
    """Sums over texts."""

    texts: int = 0
    tokens: int = 0
    unknown: int = 0
    truncated: int = 0

    @staticmethod
    def of(readings: Iterable[TextReading]) -> ReadingTotals:
        """The sums of these."""
        totals = ReadingTotals()
        for reading in readings:
            totals.texts += 1
            totals.tokens += reading.tokens
            totals.unknown += reading.unknown
            totals.truncated += reading.cut is not None
        return totals

    @property
    def unknown_share(self) -> float:
        """Of all tokens; 0 where there are none."""
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def is_unknown_language(self) -> bool:
        """Whether so many texts together are more than emojis and names."""
        return self.unknown_share > UNKNOWN_SHARE

    def to_json(self) -> dict[str, float]:
        """Plain JSON values, for a version's metrics."""
        return {
            "texts": self.texts,
            "tokens": self.tokens,
            "unknown_share": round(self.unknown_share, 4),
            "truncated": self.truncated,
        }


def unknown_language(share: float) -> str:
    """The warning of texts that the encoder cannot read."""
    return (
        f"{UNKNOWN_LANGUAGE}: the encoder does not know this language ({share:.0%} of the tokens are unknown to it); "
        f"take one that does: `pawl encoder set {MULTILINGUAL}`"
    )


def cannot_hold(max_tokens: int, other: str, label: str) -> str:
    """The warning of a label for a text that reads the same as one with another label."""
    return (
        f"cannot_hold: the encoder reads only the first {max_tokens} tokens, and to it this text is the same as that "
        f"of {other}, whose label is {label}; they get one answer. Send shorter texts, or take an encoder that reads "
        "more (`pawl encoder set`)"
    )
