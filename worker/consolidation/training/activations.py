"""How many tokens a training on the CPU takes at once, where no library says that memory is full before it is."""

from __future__ import annotations

_ROOM = 2**29
"""Bytes for what the trained layers keep for their gradients."""
_EACH = 170
"""Bytes of that for each number of a state in each layer, measured with texts of 256 tokens (of 32: 115)."""


def tokens_at_once(layers: int, dimension: int) -> int:
    """Tokens, with padding, whose states in so many trained layers of this dimension fit in the room there is."""
    return max(1, _ROOM // (_EACH * max(1, layers) * dimension))
