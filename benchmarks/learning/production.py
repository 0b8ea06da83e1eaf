"""The plan of a production stream (B6): which requests come, what feedback comes for them, when, and how wrong it is.

40 classes (of 77; in the same proportion where there are fewer) are known from 20 texts each. The others come in four
waves at 1/12, 3/12, 5/12 and 7/12 of the stream. Class priors are drawn anew from a flat Dirichlet distribution at each
twelfth. 40 % of the requests get feedback, 100 requests late, from one of 50 users. No text comes twice.

    stream      10 % of the labels are wrong, drawn from the classes that have come; at 3/4 one source sends 80 texts of
                class a, all labelled b, within 40 requests
    drip        no other label is wrong, but 1 % of all feedback are texts of class a labelled b, from the start on,
                from one source
    pair_flip   each class has a partner; 20 % of its labels name that instead
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.datasets import Labelled, shuffled
from benchmarks.harness import BenchmarkFailed
from benchmarks.learning.data import Split
from pawl.domain.samples import NewSample

VARIANTS = ("stream", "drip", "pair_flip")
SEGMENTS = 12
BATCH = 10
"""Requests between two looks at what feedback has come."""
_WAVES = (1, 3, 5, 7)
_BURST_AT = 9
_BURST_REQUESTS = 40
_FEEDBACK_SHARE = 0.4
_USERS = 50
_RANDOM_NOISE = 0.1
_DRIP = 0.01
_PAIR_NOISE = 0.2
ATTACKER = "partner-17"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Feedback that arrives. `request` is the one it is for, if any; `truth` its right label."""

    text: str
    label: str
    truth: str
    source: str
    request: int | None = None

    def sample(self, served_label: str | None) -> NewSample:
        """As the app would store it."""
        return NewSample(self.text, self.label, source=self.source, served_label=served_label)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole stream. `deliveries[t]` arrive between request t and t + 1; the attack moves `victim` to `target`."""

    known: list[str]
    waves: list[list[str]]
    bootstrap: list[Labelled]
    requests: list[Labelled]
    deliveries: dict[int, list[Delivery]]
    victim: str
    target: str
    attack_at: int | None

    @property
    def new(self) -> list[str]:
        """Classes that come in waves."""
        return [label for wave in self.waves for label in wave]

    def at_its_best(self) -> Plan:
        """The same requests and no attack; the feedback they get is right, and there before the next batch."""
        honest = [one for some in self.deliveries.values() for one in some if one.request is not None]
        deliveries: dict[int, list[Delivery]] = defaultdict(list)
        for one in honest:
            deliveries[one.request or 0].append(replace(one, label=one.truth))
        return replace(self, deliveries=dict(deliveries), attack_at=None)

    def due(self, start: int) -> list[Delivery]:
        """Feedback that arrives during the batch of requests from `start` on."""
        return [one for at in range(start, start + BATCH) for one in self.deliveries.get(at, ())]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a stream is."""

    requests: int = 6000
    bootstrap: int = 20
    delay: int = 100
    burst: int = 80


def plan(split: Split, variant: str, size: Size, seed: int) -> Plan:
    """Draws a stream. The same seed gives the same requests in every variant but for the attacker's texts."""
    rng, dice = random.Random(seed), np.random.default_rng(seed)
    order = rng.sample(split.labels, len(split.labels))
    cut = round(len(order) * 40 / 77)
    known, rest = order[:cut], order[cut:]
    waves = [rest[start :: len(_WAVES)] for start in range(len(_WAVES))]
    pools: dict[str, list[Labelled]] = defaultdict(list)
    for row in shuffled(split.train, rng):
        pools[row.label].append(row)
    bootstrap = [pools[label].pop() for label in known for _ in range(min(size.bootstrap, len(pools[label]) // 2))]
    victims = [label for label in known if len(pools[label]) >= 1.25 * size.burst]
    if not victims:
        raise BenchmarkFailed(f"no known class has {size.burst} texts for an attack")
    victim = rng.choice(victims)
    target = rng.choice([label for label in known if label != victim])
    poison = [pools[victim].pop() for _ in range(size.burst)]
    requests = _requests(pools, known, waves, size.requests, dice)
    deliveries: dict[int, list[Delivery]] = defaultdict(list)
    _feedback(deliveries, requests, variant, order, size, rng)
    attack_at = None
    if variant == "stream":
        attack_at = _BURST_AT * size.requests // SEGMENTS
        for number, row in enumerate(poison):
            at = attack_at + number * _BURST_REQUESTS // len(poison)
            deliveries[at].append(Delivery(row.text, target, victim, ATTACKER))
    elif variant == "drip":
        attack_at = size.delay
        honest = sum(map(len, deliveries.values()))
        for row, at in zip(poison, _spread(size, round(honest * _DRIP / (1 - _DRIP))), strict=False):
            deliveries[at].append(Delivery(row.text, target, victim, ATTACKER))
    return Plan(known, waves, bootstrap, requests, dict(deliveries), victim, target, attack_at)


def _requests(
    pools: dict[str, list[Labelled]],
    known: Sequence[str],
    waves: Sequence[Sequence[str]],
    count: int,
    dice: np.random.Generator,
) -> list[Labelled]:
    requests: list[Labelled] = []
    active = list(known)
    for segment in range(SEGMENTS):
        if segment in _WAVES:
            active += waves[_WAVES.index(segment)]
        prior = dict(zip(active, dice.dirichlet(np.ones(len(active))), strict=True))
        for _ in range((segment + 1) * count // SEGMENTS - segment * count // SEGMENTS):
            left = [label for label in active if pools[label]]
            if not left:
                raise BenchmarkFailed(f"there are too few texts for {count} requests")
            shares = np.array([prior[label] + 1e-9 for label in left])
            requests.append(pools[left[int(dice.choice(len(left), p=shares / shares.sum()))]].pop())
    return requests


def _feedback(
    deliveries: dict[int, list[Delivery]],
    requests: Sequence[Labelled],
    variant: str,
    order: Sequence[str],
    size: Size,
    rng: random.Random,
) -> None:
    """Users' labels. A class's partner is the one that came before it (the first one's: the second)."""
    partner = {label: order[number - 1] if number else order[1] for number, label in enumerate(order)}
    seen: dict[str, None] = {}
    for number, row in enumerate(requests):
        seen.setdefault(row.label)
        wanted, luck, other = rng.random() < _FEEDBACK_SHARE, rng.random(), rng.choice(list(seen))
        source = f"user-{rng.randrange(_USERS)}"
        if not wanted:
            continue
        label = row.label
        if variant == "stream" and luck < _RANDOM_NOISE:
            label = other if other != row.label else partner[row.label]
        elif variant == "pair_flip" and luck < _PAIR_NOISE:
            label = partner[row.label]
        deliveries[number + size.delay].append(Delivery(row.text, label, row.label, source, number))


def _spread(size: Size, count: int) -> list[int]:
    room = size.requests - size.delay
    return [size.delay + number * room // max(count, 1) for number in range(count)]
