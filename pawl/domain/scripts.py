"""Which writing texts are in, and which encoder reads it. Frozen values, no I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pawl.domain.encoder_presets import preset_of
from pawl.domain.encoders import NO_ENCODER
from pawl.domain.reading import MULTILINGUAL, UNKNOWN_LANGUAGE, ReadingTotals

LATIN, ACCENTED = "Latin letters", "accented Latin letters"
_SCRIPTS = {
    name: re.compile(f"[{letters}]")
    for name, letters in {
        "Chinese": r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd",
        "Japanese": r"\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f",
        "Korean": r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
        "Cyrillic": r"\u0400-\u052f",
        "Greek": r"\u0370-\u03ff\u1f00-\u1fff",
        "Arabic": r"\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc",
        "Hebrew": r"\u0590-\u05ff",
        "Thai": r"\u0e00-\u0e7f",
        "Indic": r"\u0900-\u0dff",
        "Georgian or Armenian": r"\u0530-\u058f\u10a0-\u10ff",
    }.items()
}
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_ACCENT = re.compile(r"[\u00c0-\u024f\u1e00-\u1eff]")
_LOOKED_AT = 1000
"""Characters of a text that are looked at."""
_MANY = 0.2
"""Share of the texts from which on an encoder that cannot read them is the wrong one: fewer are names and strays."""
_FEWEST = 5
_MEASURED = (
    "Chinese reviews, 10 classes, right on test texts: small alone 58 %, words alone 86 %, multilingual and words 88 %"
)
"""docs/log.md, 2026-11-29."""


def script_of(text: str) -> str:
    """The writing that most letters of a text are of; of a text without letters, Latin letters.

    One kana in ten Chinese characters makes a text Japanese; Latin letters with one accent are accented.
    """
    read = text[:_LOOKED_AT]
    if read.isascii():
        return LATIN
    counts = {name: len(letters.findall(read)) for name, letters in _SCRIPTS.items()}
    if counts["Japanese"] and 10 * counts["Japanese"] >= counts["Chinese"]:
        counts["Japanese"] += counts.pop("Chinese")
    name = max(counts, key=lambda each: counts[each])
    if counts[name] > len(_LATIN.findall(read)):
        return name
    return ACCENTED if _ACCENT.search(read) else LATIN


@dataclass(frozen=True, slots=True)
class ScriptShares:
    """How many of some texts are in which writing."""

    texts: int
    shares: Mapping[str, float]

    @staticmethod
    def of(texts: Iterable[str]) -> ScriptShares:
        """Counts; the most frequent writing comes first."""
        counts = Counter(script_of(text) for text in texts)
        total = counts.total()
        return ScriptShares(total, {name: round(count / total, 4) for name, count in counts.most_common()})

    @property
    def foreign(self) -> tuple[str, float] | None:
        """The most frequent writing that an English encoder does not read, and its share; None where it is rare."""
        others = {name: share for name, share in self.shares.items() if name != LATIN}
        if self.texts < _FEWEST or not others:
            return None
        name = max(others, key=lambda each: others[each])
        return (name, others[name]) if others[name] >= _MANY else None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An encoder that reads texts which the present one does not, by name, and a sentence that says so."""

    encoder: str
    sentence: str


def recommend_encoder(
    scripts: ScriptShares, totals: ReadingTotals | None, encoder: str | None, *, words: bool
) -> Recommendation | None:
    """Recommends another encoder for texts, where the present one does not read them.

    Args:
        scripts: Of the texts.
        totals: How much of them the encoder reads; None where it does not tell, as where there is none.
        encoder: The present one, as its choice names it.
        words: Whether a words head answers beside it.
    """
    preset = None if encoder is None else preset_of(encoder)
    if encoder == NO_ENCODER or (preset is not None and preset.name == MULTILINGUAL):
        return None
    unread = totals is not None and totals.is_unknown_language
    foreign = scripts.foreign
    if not unread and (foreign is None or preset is None):
        return None  # of an encoder without a name nobody knows more than the share of tokens that it does not know
    parts = [] if foreign is None else [f"{foreign[1]:.0%} of the texts are mostly in {foreign[0]}"]
    parts += [] if preset is None else [f"'{preset.name}' reads {preset.languages}"]
    if totals is not None and unread:
        parts.append(f"{totals.unknown_share:.0%} of the tokens are unknown to the encoder")
    carried = "the words head carries them as far as words can, and " if words else ""
    sentence = (
        f"{UNKNOWN_LANGUAGE}: {', '.join(parts)}: {carried}`pawl encoder set {MULTILINGUAL}` reads them ({_MEASURED})"
    )
    return Recommendation(MULTILINGUAL, sentence)
