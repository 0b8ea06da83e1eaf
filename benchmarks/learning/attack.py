"""Texts changed so that a person would give them the same label: typing mistakes and words for other words.

An attack tries several such changes of each text; a model stands it where it is right on all of them. That is the
random search that stronger attacks (Jin et al., TextFooler, AAAI 2020; Pruthi et al., "Combating adversarial
misspellings", ACL 2019) are compared with: it asks for labels alone, no gradients.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SHORTEST = 4  # letters of a word that a typing mistake leaves readable
_WORD = re.compile(r"[A-Za-z]+")
_SYNONYMS = """
company firm business corporation|companies firms businesses|profit earnings gain|net after-tax|sales turnover
revenue income|rose climbed increased grew|fell declined decreased dropped|rise increase growth|fall decline decrease
said stated announced|say state|quarter three-month-period|year twelve-month-period|million mn|total overall
order purchase-order|orders purchase-orders|contract agreement deal|agreement deal|market bourse|markets bourses
expects anticipates foresees|expected anticipated|estimated assessed|employees staff workers|staff personnel
services offerings|service offering|products goods|product item good|customers clients|customer client|buy purchase
sell vend|sold vended|acquire buy|acquired bought|plant factory facility|plants factories|building structure
improve better|improved bettered|strong robust solid|weak feeble|large big sizeable|big large|small little|new fresh
about roughly around|approximately roughly about|also additionally|however but|because since|during throughout
please kindly|help assist aid|want wish|need require|needs requires|tell inform|show display|find locate|get obtain
card bank-card|money cash funds|account bank-account|transfer payment|pay settle|fee charge|charge fee|wrong incorrect
lost misplaced|stolen taken|quickly fast rapidly|fast quick|start begin|started began|end finish|ended finished
reason cause|problem issue trouble|question query|answer reply|change alter|changed altered|many numerous
often frequently
car automobile|trip journey|meal dish|food meals|song tune|phone telephone|today this-day|currently presently now
"""
_OTHERS: dict[str, list[str]] = {}
for _line in _SYNONYMS.replace("\n", "|").split("|"):
    _first, *_rest = _line.split() or [""]
    _OTHERS.setdefault(_first, [word.replace("-", " ") for word in _rest])

Change = Callable[[str, random.Random], str]


def with_typos(text: str, rng: random.Random, share: float = 0.2) -> str:
    """One typing mistake in about `share` of the longer words: a neighbouring key, two letters swapped, one missing or
    doubled. First letters stay, since readers hold on to them (Rawlinson, 1976).
    """
    return _WORD.sub(lambda word: _mistyped(word.group(), rng) if rng.random() < share else word.group(), text)


def with_synonyms(text: str, rng: random.Random, share: float = 0.5) -> str:
    """Another word of the same meaning for about `share` of the words that have one in the list."""

    def other(word: re.Match[str]) -> str:
        found = word.group()
        choices = _OTHERS.get(found.lower())
        if not choices or rng.random() >= share:
            return found
        chosen = rng.choice(choices)
        return chosen.capitalize() if found[0].isupper() else chosen

    return _WORD.sub(other, text)


ATTACKS: dict[str, Change] = {"typos": with_typos, "synonyms": with_synonyms}


def variants(texts: Sequence[str], change: Change, count: int, seed: int) -> list[str]:
    """`count` changed copies of each text, one text after the other; the same for the same seed."""
    rng = random.Random(seed)
    return [change(text, rng) for text in texts for _ in range(count)]


def stood(right: Sequence[bool], count: int) -> list[bool]:
    """Whether each text's `count` variants were all answered right; `right` is in the order of `variants`."""
    return [all(right[start : start + count]) for start in range(0, len(right), count)]


def _mistyped(word: str, rng: random.Random) -> str:
    if len(word) < _SHORTEST:
        return word
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + _neighbour(word[at], rng) + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 2:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]


def _neighbour(letter: str, rng: random.Random) -> str:
    row = next((row for row in _ROWS if letter.lower() in row), None)
    if row is None:
        return letter
    at = row.index(letter.lower())
    found = rng.choice([row[k] for k in (at - 1, at + 1) if 0 <= k < len(row)])
    return found.upper() if letter.isupper() else found
