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
class SampleRef:
    """A learned sample without its text, so that a million of them fit in memory."""

    id: str
    task: str
    label: str
    text_digest: str
    split: Split

    @staticmethod
    def of(sample: Sample) -> SampleRef:
        """What selection needs of a stored sample."""
        return SampleRef(sample.id, sample.task, sample.label, sample.text_digest, sample.split)


@dataclass(frozen=True, slots=True)
class Selection:
    """`new` and `replayed` are trained on; no text of `validation` is among them, in any task."""

    new: tuple[SampleRef, ...]
    replayed: tuple[SampleRef, ...]
    validation: tuple[SampleRef, ...]


def select(
    learned: Iterable[SampleRef],
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
    unseen = balanced([sample for sample in allowed if sample.id not in seen], limit, seed)
    replayed = at_most_per_class([sample for sample in allowed if sample.id in seen], replay_per_class, seed)
    known_texts = {sample.text_digest for sample in replayed}
    # A text may be new in one task and replayed in another: validating on it would measure what is known by heart.
    fresh = [sample for sample in unseen if sample.text_digest not in known_texts]
    validation = stratified(fresh, validation_share, validation_limit, seed)
    validation_texts = {sample.text_digest for sample in validation}
    return Selection(
        new=tuple(sample for sample in unseen if sample.text_digest not in validation_texts),
        replayed=tuple(replayed),
        validation=tuple(sample for sample in unseen if sample.text_digest in validation_texts),
    )


def trainable(learned: Iterable[SampleRef], golden_texts: AbstractSet[str]) -> list[SampleRef]:
    """Those an encoder may be trained on: neither held out nor golden in any task."""
    return [sample for sample in learned if sample.split is Split.TRAIN and sample.text_digest not in golden_texts]


def at_most_per_class(samples: Iterable[SampleRef], per_class: int, seed: int) -> list[SampleRef]:
    """At most `per_class` of each (task, label), picked by a seeded hash."""
    return [sample for members in _by_class(samples, seed).values() for sample in members[:per_class]]


def balanced(samples: Sequence[SampleRef], limit: int, seed: int) -> list[SampleRef]:
    """At most `limit` samples, as evenly over (task, label) as their numbers allow.

    Small classes are kept whole and the large ones share what is left (water-filling).
    """
    if len(samples) <= limit:
        return list(samples)
    # Smallest first: what they leave of their share is divided among the larger ones that follow.
    classes = sorted(_by_class(samples, seed).values(), key=len)
    chosen: list[SampleRef] = []
    for position, members in enumerate(classes):
        share = (limit - len(chosen)) // (len(classes) - position)
        chosen.extend(members[:share])
    return chosen


def stratified(samples: Sequence[SampleRef], share: float, limit: int, seed: int) -> list[SampleRef]:
    """About `share` of the samples, at most `limit`, each class in proportion; none if too few to mean anything.

    Systematic sampling: the samples in the order of their classes, one in every 1/share of them.
    """
    count = min(limit, int(len(samples) * share))
    if count < _LEAST_VALIDATION:
        return []
    ordered = [sample for members in _by_class(samples, seed).values() for sample in members]
    step = len(ordered) / count
    # The middle of each stretch: always from the start would favour whatever comes first in a class.
    return [ordered[int((k + 0.5) * step)] for k in range(count)]


def coreset(learned: Sequence[SampleRef], *, limit: int, heldout_share: float, seed: int) -> list[str]:
    """Ids to embed again: all learned samples or, above `limit`, a class-balanced part of them.

    Held-out samples, which judge the new version, come first, up to `heldout_share` of the limit.
    """
    if len(learned) <= limit:
        return [sample.id for sample in learned]
    heldout = balanced(
        [sample for sample in learned if sample.split is Split.HELDOUT], int(limit * heldout_share), seed
    )
    rest = balanced([sample for sample in learned if sample.split is not Split.HELDOUT], limit - len(heldout), seed)
    return [sample.id for sample in (*heldout, *rest)]


def _by_class(samples: Iterable[SampleRef], seed: int) -> dict[tuple[str, str], list[SampleRef]]:
    """The samples of each (task, label), classes in sorted order, members in the order of a seeded hash of their text.

    The hash is of the text, not the id: a text with labels in two tasks is then picked for both or for neither.
    """
    classes: defaultdict[tuple[str, str], list[SampleRef]] = defaultdict(list)
    for sample in samples:
        classes[sample.task, sample.label].append(sample)
    for members in classes.values():
        members.sort(key=lambda sample: (_position(seed, sample.text_digest), sample.id))
    return dict(sorted(classes.items()))


def _position(seed: int, key: str) -> bytes:
    # Not `hash()`, which differs in each process.
    return hashlib.blake2b(key.encode(), digest_size=8, salt=seed.to_bytes(16, "little")).digest()
