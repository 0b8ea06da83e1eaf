"""The semantic head of a task as it serves: a linear map, offsets and a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pawl.classifier.calibration import softmax
from pawl.classifier.tensors import read_tensors, tensor_bytes
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats

_NO_SAMPLE = -1e3
"""Labels without samples have offsets below this, so that they are never answered."""


class LinearHead:
    """scores = phi W + offsets; probabilities = softmax(scores / temperature).

    Args:
        labels: C distinct labels, in the order of the columns.
        weights: W, shape (p, C), float32.
        offsets: Shape (C,), float32; the correction for frequent labels.
        temperature: Positive; below 1 sharpens. Ridge scores lie around [0, 1], so about 0.1.

    Raises:
        ValueError: The shapes do not fit, labels repeat, or the temperature is not positive and finite.
    """

    def __init__(self, labels: Sequence[str], weights: Floats, offsets: Floats, temperature: float) -> None:
        self.labels = tuple(labels)
        self.weights = np.ascontiguousarray(weights, dtype=np.float32)
        self.offsets = np.ascontiguousarray(offsets, dtype=np.float32)
        self.temperature = float(temperature)
        count = len(self.labels)
        if not count or len(set(self.labels)) != count:
            raise ValueError(f"a head needs distinct labels, got {count} with {len(set(self.labels))} distinct")
        if self.weights.ndim != 2 or self.weights.shape[1] != count or self.offsets.shape != (count,):
            raise ValueError(f"weights {self.weights.shape}, offsets {self.offsets.shape} for {count} labels")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature {self.temperature} is not positive and finite")

    @classmethod
    def from_file(cls, path: Path, labels: Sequence[str], temperature: float) -> LinearHead:
        """Reads `heads/<task>.safetensors`; labels and temperature are in the manifest. Raises `ArtefactCorrupt`."""
        tensors = read_tensors(path, {"weights": 2, "offsets": 1})
        try:
            return cls(labels, tensors["weights"], tensors["offsets"], temperature)
        except ValueError as error:
            raise ArtefactCorrupt(path=path, problem=str(error)) from error

    def to_bytes(self) -> bytes:
        """The contents of `heads/<task>.safetensors`: weights and offsets."""
        return tensor_bytes({"weights": self.weights, "offsets": self.offsets})

    def relabelled(self, names: Sequence[str | None], prior_correction: float) -> LinearHead | None:
        """Returns the head under other labels; None where no label is left.

        `names` has one name for each column. Columns of the same name are added, columns of None are left out. The
        result is exact where the merged classes weigh their samples alike, and near otherwise, until the learner fits
        the head anew. `prior_correction` is tau in offset = -tau log n.
        """
        labels = list(dict.fromkeys(name for name in names if name is not None))
        if not labels:
            return None
        counts, offsets = np.zeros(len(labels)), np.full(len(labels), -np.inf)
        for column, name in enumerate(names):
            if name is not None:
                place = labels.index(name)
                # Stands where no count is known: without prior correction, or where no column of the name has a sample.
                offsets[place] = max(offsets[place], self.offsets[column])
                # A head keeps no counts: n = exp(-offset / tau), and those of merged classes add up.
                if prior_correction and self.offsets[column] > _NO_SAMPLE:
                    counts[place] += np.exp(-self.offsets[column] / prior_correction)
        known = counts > 0
        offsets[known] = -prior_correction * np.log(counts[known])
        return LinearHead(labels, merged_columns(self.weights, names), offsets.astype(np.float32), self.temperature)

    @property
    def width(self) -> int:
        """p, the length of phi."""
        return int(self.weights.shape[0])

    def scores(self, phi: Floats) -> Floats:
        """Returns scores, shape (n, C), of features phi, shape (n, p)."""
        scores: Floats = phi @ self.weights
        scores += self.offsets
        return scores

    def probabilities(self, phi: Floats) -> Floats:
        """Returns calibrated probabilities, shape (n, C), of features phi; each row sums to 1."""
        return self.calibrated(self.scores(phi))

    def calibrated(self, scores: Floats) -> Floats:
        """Returns calibrated probabilities, shape (n, C), of scores."""
        return softmax(scores / np.float32(self.temperature))


def merged_columns(weights: Floats, names: Sequence[str | None]) -> Floats:
    """Returns `weights`, shape (p, C), under the names of its columns: those of one name added, those of None left out.

    The columns are in the order in which their names come first.
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    merged = np.zeros((len(weights), len(places)), np.float32)
    for column, name in enumerate(names):
        if name is not None:
            merged[:, places[name]] += weights[:, column]
    return merged
