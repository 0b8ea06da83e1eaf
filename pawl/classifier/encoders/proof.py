"""A backend's numbers are proven before it serves: texts of all lengths, alone and together, in changing order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pawl.classifier.encoders.reference import Reference
from pawl.classifier.encoders.spec import EncoderSpec, Precision
from pawl.ports import Encoder, Floats

LEAST_COSINE: dict[Precision, float] = {"float32": 0.999, "int8": 0.98}
"""Between a backend's embedding of any text and that of transformers, in each of the layers that are pooled.

Measured on all-MiniLM-L6-v2: OpenVINO in bfloat16 0.9999 at worst; int8 0.9956 in the mean of the last layer, 0.9876 at
worst (the empty text).
"""
_NEAR = 0.5
"""Of the usual distance between two texts: some encoders have all texts within a cosine of 0.999 of each other."""
_SHORT = 300  # characters: asked for once more after the long ones
_TOGETHER = (2, 3, 5, 8, 13, 21)


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it: the lowest cosine, and why the backend may not serve; `problem` is empty where it may."""

    cosine: float
    problem: str = ""


def prove(encoder: Encoder, reference: Reference, spec: EncoderSpec) -> Proof:
    """Compares an opened backend with the reference, until the first text on which it is wrong."""
    texts, least, lowest = reference.texts, LEAST_COSINE[spec.precision], 1.0
    least = max(least, 1.0 - (_NEAR * _spread(reference.embeddings, len(spec.layers))) ** 2 / 2)
    for how, rows in _calls(texts):
        try:
            z = encoder.encode([texts[row] for row in rows])
        except Exception as error:  # noqa: BLE001 - the libraries raise kinds of their own
            return Proof(0.0, f"it fails on {how}: {_first_line(error)}")
        found = _cosines(z, reference.embeddings[rows], len(spec.layers))
        worst = int(found.argmin())
        if not found[worst] >= least:  # NaN is not
            text = texts[rows[worst]]
            problem = f"on {how} its embedding is not that of transformers: cosine {found[worst]:.4f}"
            problem = f"{problem}, at least {least:.4g} is needed (a text of {len(text)} characters)"
            return Proof(float(np.nan_to_num(found[worst])), problem)
        lowest = min(lowest, float(found[worst]))
    return Proof(round(lowest, 6))


def _calls(texts: tuple[str, ...]) -> list[tuple[str, list[int]]]:
    """The calls, each the rows it asks for: growing lengths alone, mixed batches, then short ones alone once more."""
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    calls = [("a text alone", [row]) for row in range(len(texts))]
    start = 0
    for size in (*_TOGETHER, len(texts)):
        if batch := order[start : start + size]:
            calls.append((f"{len(batch)} texts together", batch))
        start += size
    return calls + [("a text alone after longer ones", [row]) for row in order if len(texts[row]) < _SHORT]


def _cosines(z: Floats, expected: Floats, layers: int) -> Floats:
    """The lower of the layers' cosines for each text; 0 where the shape is another."""
    if z.shape != expected.shape:
        return np.zeros(len(expected), np.float32)
    a, b = (rows.reshape(len(rows), layers, -1).astype(np.float64) for rows in (z, expected))
    sizes = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    cosines = (a * b).sum(axis=2) / np.maximum(sizes, 1e-12)
    return np.asarray(cosines.min(axis=1), np.float32)


def _spread(embeddings: Floats, layers: int) -> float:
    """The median distance between the embeddings of two texts, in the layer where it is smallest."""
    parts = embeddings.reshape(len(embeddings), layers, -1).transpose(1, 0, 2).astype(np.float64)
    products = np.clip(parts @ parts.transpose(0, 2, 1), -1.0, 1.0)
    pairs = np.triu_indices(len(embeddings), 1)
    return float(min(np.median(np.sqrt(2.0 - 2.0 * layer[pairs])) for layer in products))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
