"""A backend's numbers are proven before it serves.

An exported encoder has a file of reference embeddings beside it: what transformers makes of texts of every length that
the encoder takes. Whoever opens the encoder on a backend compares the backend with them: each text alone, several
together, in changing order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pawl.classifier.encoders.spec import REFERENCE_FILE, EncoderSpec, Precision
from pawl.classifier.encoders.tokenization import TextTokenizer
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Encoder, Floats

LEAST_COSINE: dict[Precision, float] = {"float32": 0.999, "int8": 0.98}
"""Between a backend's embedding of any text and that of transformers, in each of the layers that are pooled.

Measured on all-MiniLM-L6-v2: OpenVINO in bfloat16 0.9999 at worst; int8 0.9956 in the mean of the last layer, 0.9876 at
worst (the empty text).
"""
_NEAR = 0.5
"""Share of the usual distance between two texts that a backend's embedding may be away from the reference."""
_SHORT = 300  # characters: asked for once more after the long ones
_TOGETHER = (2, 3, 5, 8, 13, 21)
_EVERY = 64
"""An encoder that takes no more tokens than this is asked at every length; a longer one around the powers of two."""
_ODD = ("", " ", "\N{GRINNING FACE}", "a\x00b")
_SENTENCES = (
    "my card has not arrived and nobody can say when it will : the 2nd payment of 13.10 was declined twice "
    "naïve Überweisung пришла карта не \u6211\u7684\u5361 \u304c \u5c4a\u304b\u306a\u3044 why ? please help me now ! "
    "profit rose in the third quarter while sales fell by a tenth"
)
_WORDS = _SENTENCES.split()


@dataclass(frozen=True, slots=True)
class ReferenceEmbeddings:
    """What transformers makes of some texts, in a file beside the encoder.

    `embeddings` has shape (n, d); each text was embedded alone. `export_problem` says why there is no ONNX file, and is
    empty where there is one. The file is not part of the encoder's digest, because it follows from the other files.
    """

    texts: tuple[str, ...]
    embeddings: Floats
    export_problem: str = ""

    def write(self, folder: Path) -> None:
        """Writes the file into an encoder folder."""
        about = {"texts": json.dumps(self.texts), "export_problem": self.export_problem}
        save_file({"embeddings": np.ascontiguousarray(self.embeddings)}, folder / REFERENCE_FILE, metadata=about)

    @staticmethod
    def read(folder: Path) -> ReferenceEmbeddings:
        """Reads the file of an encoder folder; raises `ArtefactCorrupt` when it is missing or odd."""
        path = folder / REFERENCE_FILE
        try:
            with safe_open(path, framework="numpy") as file:
                about, embeddings = file.metadata() or {}, file.get_tensor("embeddings")
            texts = tuple(str(text) for text in json.loads(about["texts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtefactCorrupt(path=path, problem=f"not a file of reference embeddings: {error!r}") from error
        if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != len(texts) or not texts:
            raise ArtefactCorrupt(path=path, problem=f"{len(texts)} texts, embeddings of shape {embeddings.shape}")
        return ReferenceEmbeddings(texts, embeddings, about.get("export_problem", ""))


@dataclass(frozen=True, slots=True)
class Proof:
    """The lowest cosine between a backend's embeddings and the reference. `problem` is empty where it may serve."""

    cosine: float
    problem: str = ""


def prove(encoder: Encoder, reference: ReferenceEmbeddings, spec: EncoderSpec) -> Proof:
    """Compares a backend with the reference, up to the first text on which it is wrong."""
    texts, least, lowest = reference.texts, LEAST_COSINE[spec.precision], 1.0
    # Some encoders have all texts within a cosine of 0.999 of each other, where that limit would tell nothing apart.
    least = max(least, 1.0 - (_NEAR * _spread(reference.embeddings, len(spec.layers))) ** 2 / 2)
    for how, rows in _calls(texts):
        try:
            z = encoder.encode([texts[row] for row in rows])
        except Exception as error:  # noqa: BLE001 - the libraries raise kinds of their own
            return Proof(0.0, f"it fails on {how}: {_first_line(error)}")
        cosines = _cosines(z, reference.embeddings[rows], len(spec.layers))
        worst = int(cosines.argmin())
        if not cosines[worst] >= least:  # also true for NaN
            text = texts[rows[worst]]
            problem = f"on {how} its embedding is not that of transformers: cosine {cosines[worst]:.4f}"
            problem = f"{problem}, at least {least:.4g} is needed (a text of {len(text)} characters)"
            return Proof(float(np.nan_to_num(cosines[worst])), problem)
        lowest = min(lowest, float(cosines[worst]))
    return Proof(round(lowest, 6))


def _calls(texts: tuple[str, ...]) -> list[tuple[str, list[int]]]:
    """Returns the calls to make, each with its rows: growing lengths alone, mixed batches, short ones alone again."""
    # A fixed seed: a backend that fails must fail again when it is asked again.
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    calls = [("a text alone", [row]) for row in range(len(texts))]
    start = 0
    for size in (*_TOGETHER, len(texts)):
        if batch := order[start : start + size]:
            calls.append((f"{len(batch)} texts together", batch))
        start += size
    return calls + [("a text alone after longer ones", [row]) for row in order if len(texts[row]) < _SHORT]


def _cosines(z: Floats, expected: Floats, layers: int) -> Floats:
    """Returns the lowest of the layers' cosines for each text, shape (n,); 0 where the shapes differ."""
    if z.shape != expected.shape:
        return np.zeros(len(expected), np.float32)
    # Layer by layer: in the cosine of the whole z two right layers would hide a wrong one.
    a, b = (rows.reshape(len(rows), layers, -1).astype(np.float64) for rows in (z, expected))
    sizes = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    cosines = (a * b).sum(axis=2) / np.maximum(sizes, 1e-12)
    return np.asarray(cosines.min(axis=1), np.float32)


def _spread(embeddings: Floats, layers: int) -> float:
    """Returns the median distance between the embeddings of two texts, in the layer where it is smallest."""
    parts = embeddings.reshape(len(embeddings), layers, -1).transpose(1, 0, 2).astype(np.float64)
    products = np.clip(parts @ parts.transpose(0, 2, 1), -1.0, 1.0)
    pairs = np.triu_indices(len(embeddings), 1)
    return float(min(np.median(np.sqrt(2.0 - 2.0 * layer[pairs])) for layer in products))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def probe_texts(tokenizer: TextTokenizer, max_tokens: int) -> tuple[str, ...]:
    """Returns a text for each length in tokens, shortest first, then one that is cut, then some with hardly a word.

    Not every tokenizer can make every length: few make a text of a single token.
    """
    return (*(_text(tokenizer, n) for n in lengths(max_tokens)), _words(0, 2 * max_tokens), *_ODD)


def lengths(max_tokens: int) -> list[int]:
    """Returns the lengths to try: up to 16 (64 where the encoder takes no more), around powers of two, the longest."""
    counts = set(range(1, min(max_tokens, _EVERY if max_tokens <= _EVERY else 16) + 1))
    power = 32
    while power < max_tokens:
        counts |= {n for n in (power - 1, power, power + 1) if n <= max_tokens}
        power *= 2
    return sorted(counts | {max(1, max_tokens - 1), max_tokens})


def _text(tokenizer: TextTokenizer, tokens: int) -> str:
    """Returns a text with so many tokens, or with as few more as can be had."""
    candidates: list[tuple[int, str]] = []
    for first in range(tokens, tokens + len(_WORDS)):
        # Halving relies on more words never making fewer tokens. Other first words reach other lengths.
        low, high = 0, tokens
        while low < high:
            middle = (low + high) // 2
            if len(tokenizer.tokenize([_words(first, middle)])[0]) < tokens:
                low = middle + 1
            else:
                high = middle
        text = _words(first, low)
        candidates.append((len(tokenizer.tokenize([text])[0]), text))
        if candidates[-1][0] == tokens:
            break
    return min(candidates)[1]


def _words(first: int, count: int) -> str:
    return " ".join(_WORDS[(first + place) % len(_WORDS)] for place in range(count))
