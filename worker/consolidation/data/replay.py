"""Which samples a consolidation trains on, which it validates on, and which it embeds again. Pure functions.

Everything is seeded and independent of the order in which the store returned the samples.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pawl.domain.samples import Sample, Split

_LEAST_VALIDATION = 20  # fewer texts say nothing about a change of a few points: then nothing is held back


@dataclass(frozen=True, slots=True)
class Candidate:
    """A learned sample as selection sees it: without its text, so that a million of them fit in memory."""

    id: str
    task: str
    label: str
    text_digest: str
    split: Split

    @staticmethod
    def of(sample: Sample) -> Candidate:
        """The candidate for a stored sample."""
        return Candidate(sample.id, sample.task, sample.label, sample.text_digest, sample.split)


@dataclass(frozen=True, slots=True)
class Selection:
    """`new` and `replayed` are trained on; no text of `validation` is among them, in any task."""

    new: tuple[Candidate, ...]
    replayed: tuple[Candidate, ...]
    validation: tuple[Candidate, ...]


def select(
    learned: Iterable[Candidate],
    seen: AbstractSet[str],
    golden_texts: AbstractSet[str],
    *,
    replay_per_class: int,
    validation_share: float,
    validation_limit: int,
    limit: int,
    seed: int,
) -> Selection:
    """Divides what the encoder may learn into new, replayed and validation samples.

    Held-out samples and every text that is golden in any task are left out (design invariant 8). `seen` are the ids
    the encoder was trained on before; the others are new, at most `limit` of them (class-balanced; the rest stays new
    for the next consolidation). Validation samples are taken from the new ones, since the encoder knows the others.
    """
    allowed = trainable(learned, golden_texts)
    unseen = balanced([c for c in allowed if c.id not in seen], limit, seed)
    replayed = at_most_per_class([c for c in allowed if c.id in seen], replay_per_class, seed)
    known_texts = {c.text_digest for c in replayed}
    fresh = [c for c in unseen if c.text_digest not in known_texts]
    validation = stratified(fresh, validation_share, validation_limit, seed)
    validation_texts = {c.text_digest for c in validation}
    return Selection(
        new=tuple(c for c in unseen if c.text_digest not in validation_texts),
        replayed=tuple(replayed),
        validation=tuple(c for c in unseen if c.text_digest in validation_texts),
    )


def trainable(learned: Iterable[Candidate], golden_texts: AbstractSet[str]) -> list[Candidate]:
    """Those an encoder may be trained on: neither held out nor golden in any task."""
    return [c for c in learned if c.split is Split.TRAIN and c.text_digest not in golden_texts]


def at_most_per_class(candidates: Iterable[Candidate], per_class: int, seed: int) -> list[Candidate]:
    """At most `per_class` of each (task, label), picked by a seeded hash."""
    return [c for members in _by_class(candidates, seed).values() for c in members[:per_class]]


def balanced(candidates: Sequence[Candidate], limit: int, seed: int) -> list[Candidate]:
    """At most `limit` candidates, as evenly over (task, label) as their numbers allow.

    Small classes are kept whole and the large ones share what is left (water-filling).
    """
    if len(candidates) <= limit:
        return list(candidates)
    classes = sorted(_by_class(candidates, seed).values(), key=len)
    chosen: list[Candidate] = []
    for position, members in enumerate(classes):
        share = (limit - len(chosen)) // (len(classes) - position)
        chosen.extend(members[:share])
    return chosen


def stratified(candidates: Sequence[Candidate], share: float, limit: int, seed: int) -> list[Candidate]:
    """About `share` of the candidates, at most `limit`, each class in proportion; none if too few to mean anything.

    Systematic sampling: the candidates in the order of their classes, one in every 1/share of them.
    """
    count = min(limit, int(len(candidates) * share))
    if count < _LEAST_VALIDATION:
        return []
    ordered = [c for members in _by_class(candidates, seed).values() for c in members]
    step = len(ordered) / count
    return [ordered[int((k + 0.5) * step)] for k in range(count)]


def coreset(learned: Sequence[Candidate], *, limit: int, heldout_share: float, seed: int) -> list[str]:
    """Ids to embed again: all learned samples or, above `limit`, a class-balanced part of them.

    Held-out samples, which judge the candidate, come first, up to `heldout_share` of the limit.
    """
    if len(learned) <= limit:
        return [c.id for c in learned]
    heldout = balanced([c for c in learned if c.split is Split.HELDOUT], int(limit * heldout_share), seed)
    rest = balanced([c for c in learned if c.split is not Split.HELDOUT], limit - len(heldout), seed)
    return [c.id for c in (*heldout, *rest)]


def _by_class(candidates: Iterable[Candidate], seed: int) -> dict[tuple[str, str], list[Candidate]]:
    """Candidates of each (task, label), classes in sorted order, members in the order of a seeded hash of their text.

    The hash is of the text, not the id: a text with labels in two tasks is then picked for both or for neither.
    """
    classes: defaultdict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        classes[candidate.task, candidate.label].append(candidate)
    for members in classes.values():
        members.sort(key=lambda c: (_position(seed, c.text_digest), c.id))
    return dict(sorted(classes.items()))


def _position(seed: int, key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=8, salt=seed.to_bytes(16, "little")).digest()
