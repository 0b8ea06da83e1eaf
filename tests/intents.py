"""Labelled texts that the tiny encoder tells apart: each label has words of its own among common ones."""

from __future__ import annotations

import random
from collections.abc import Iterator

TOPICS = {
    "card": ("card", "pin", "blocked", "stolen", "cash", "atm", "virtual", "visa"),
    "transfer": ("transfer", "send", "account", "routing", "pending", "reversed", "withdraw", "balance"),
    "flight": ("flight", "hotel", "passport", "travel", "ticket", "trip", "booking", "city"),
    "profit": ("profit", "earnings", "sales", "quarter", "growth", "forecast", "market", "stock"),
    "password": ("password", "identity", "verify", "reset", "email", "phone", "switch", "link"),
}
_COMMON = ("please", "help", "me", "with", "this", "now", "i", "want", "to", "know", "about", "it", "can", "you")

Labelled = tuple[str, str]
"""(text, label)."""


def texts(label: str, seed: int = 0) -> Iterator[str]:
    """Endless different texts of a label; another seed gives others (but for a chance of about one in a million)."""
    rng = random.Random(f"{label} {seed}")
    seen: set[str] = set()
    while True:
        words = [*rng.choices(TOPICS[label], k=5), *rng.choices(_COMMON, k=2)]
        rng.shuffle(words)
        text = " ".join(words)
        if text not in seen:
            seen.add(text)
            yield text


def labelled(count: int, *, seed: int = 0, labels: tuple[str, ...] = tuple(TOPICS)) -> list[Labelled]:
    """`count` pairs, the labels taking turns."""
    sources = {label: texts(label, seed) for label in labels}
    return [(next(sources[label]), label) for label in (labels[i % len(labels)] for i in range(count))]


def items(pairs: list[Labelled]) -> dict[str, list[dict[str, str]]]:
    """The body of a `POST /v1/feedback` that brings all of them."""
    return {"items": [{"text": text, "label": label} for text, label in pairs]}
