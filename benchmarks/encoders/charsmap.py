"""A SentencePiece character map (`precompiled_charsmap`) from a table of code points.

The form is that of `tokenizers.normalizers.Precompiled`: the number of bytes of a trie, the trie, and the texts that
it points to, each ended by a zero byte. The trie is a double array of 32-bit units as Darts-clone has them (Yata, "A
clone of Darts", 2008): a node at position p has a base; its child by the byte c is at `base ^ c`, and what the key
that ends there maps to is at `base ^ 0`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

_LEAF, _VALUE, _BLOCK = 1 << 8, 1 << 31, 256
_LARGEST_OFFSET = 1 << 21


@dataclass(slots=True)
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)
    value: int | None = None


def precompiled_charsmap(replacements: Mapping[int, str]) -> bytes:
    """The map that replaces each code point by its text; raises `ValueError` where there are too many.

    A cluster of characters below six bytes that begins with a replaced one is replaced as a whole: so does
    `Precompiled`, whatever the map.
    """
    root, texts = _Node(), bytearray()
    for point, text in sorted(replacements.items()):
        node = root
        for byte in chr(point).encode():
            if byte == 0:
                raise ValueError("the code point 0 ends every search and cannot be replaced")
            node = node.children.setdefault(byte, _Node())
        node.value = len(texts)
        texts += text.encode() + b"\0"
    trie = _double_array(root)
    return struct.pack("<I", 4 * len(trie)) + struct.pack(f"<{len(trie)}I", *trie) + bytes(texts)


def _double_array(root: _Node) -> list[int]:
    units: dict[int, int] = {0: 0}
    bases: set[int] = {0}
    base, waiting = 0, [(0, root)]
    while waiting:
        position, node = waiting.pop()
        bytes_ = [*node.children, *([0] if node.value is not None else [])]
        # Two nodes with one base would find each other's children, as a child knows its byte and not its parent.
        first = base
        while first in bases or any(first ^ byte in units for byte in bytes_):
            first += 1
        bases.add(first)
        base = first if len(bytes_) > 1 else base
        if position ^ first >= _LARGEST_OFFSET:
            raise ValueError("the character map has too many code points for its form")
        units[position] |= (position ^ first) << 10 | (_LEAF if node.value is not None else 0)
        if node.value is not None:
            units[first] = _VALUE | node.value
        for byte, child in node.children.items():
            units[first ^ byte] = byte
            waiting.append((first ^ byte, child))
    size = (max(units) // _BLOCK + 1) * _BLOCK  # whatever byte is asked for, its place is inside
    return [units.get(position, 0) for position in range(size)]
