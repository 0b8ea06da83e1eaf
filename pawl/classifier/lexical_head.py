"""The lexical head of a task as it serves: a linear map on a text's words and characters, and when it answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pawl.classifier.calibration import softmax
from pawl.classifier.head import merged_columns
from pawl.classifier.lexical import LexicalFeatures
from pawl.classifier.novelty import LexicalNovelty
from pawl.classifier.stacking import Stacking
from pawl.classifier.tensors import Integers, read_tensors, tensor_bytes
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.samples import digest_text
from pawl.domain.versions import LexicalInfo
from pawl.ports import Floats


def kept_number(text_digest: str) -> int:
    """A text as the kept ones are told by: the first 64 bits of its digest."""
    return int(text_digest[:16], 16)


@dataclass(frozen=True, slots=True, eq=False)
class WordsAlone:
    """What the lexical head needs to answer without the semantic one.

    temperature  of its own scores.
    novelty      how strange the words of a text are.
    threshold    the margin between its two best scores from which on it answers alone; None: never.
    share        of the leave-one-out items, how many it answers alone.
    loss         points that the threshold may cost, as it was set; None: off.
    kept         `kept_number` of the texts that it never answers alone, sorted, shape (k,), uint64.

    Raises:
        ValueError: A number is out of its range, or the kept texts are not sorted.
    """

    temperature: float
    novelty: LexicalNovelty
    threshold: float | None = None
    share: float | None = None
    loss: float | None = None
    kept: Integers = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature {self.temperature} of the words is not positive and finite")
        for name, value in (("threshold", self.threshold), ("share", self.share), ("loss", self.loss)):
            if value is not None and not 0 <= value < np.inf:
                raise ValueError(f"{name} {value} of the words is negative or not finite")
        if self.kept.ndim != 1 or (self.kept[1:] <= self.kept[:-1]).any():
            raise ValueError("the kept texts are not sorted")


class LexicalHead:
    """scores = F(text) W, to which the offsets of the task's semantic head are added.

    Args:
        size: Columns that words and characters are hashed to (`LexicalFeatures`).
        weights: W, shape (p, C), float32.
        stacking: How much it counts beside the semantic head.
        alone: When and how it answers by itself.

    Raises:
        ValueError: The size is none that can be, or the weights do not fit it.
    """

    def __init__(self, size: int, weights: Floats, stacking: Stacking, alone: WordsAlone) -> None:
        self.features = LexicalFeatures(size)
        self.weights = np.ascontiguousarray(weights, dtype=np.float32)
        self.stacking = stacking
        self.alone = alone
        if self.weights.ndim != 2 or len(self.weights) != self.features.width:
            raise ValueError(f"weights {self.weights.shape} for {self.features.width} lexical features")
        if len(alone.novelty.rarity) != self.features.width:
            raise ValueError(f"{len(alone.novelty.rarity)} rarities for {self.features.width} lexical features")

    @classmethod
    def from_file(cls, path: Path, info: LexicalInfo) -> LexicalHead:
        """Reads `lexical/<task>.safetensors`; numbers are in the manifest. Raises `ArtefactCorrupt`."""
        axes = {"weights": 2, "rarity": 1, "quantiles": 1, "kept": 1}
        tensors = read_tensors(path, axes, integers={"kept"})
        try:
            novelty = LexicalNovelty(tensors["rarity"], tensors["quantiles"])
            alone = WordsAlone(info.temperature, novelty, info.threshold, info.share, info.loss, tensors["kept"])
            return cls(info.size, tensors["weights"], Stacking.from_info(info), alone)
        except ValueError as error:
            raise ArtefactCorrupt(path=path, problem=str(error)) from error

    def to_bytes(self) -> bytes:
        """The contents of its file."""
        novelty = self.alone.novelty
        return tensor_bytes(
            {
                "weights": self.weights,
                "rarity": novelty.rarity,
                "quantiles": novelty.quantiles,
                "kept": self.alone.kept,
            }
        )

    def info(self, digest: str) -> LexicalInfo:
        """What the manifest says of it; `digest` is its file's."""
        return LexicalInfo(
            digest=digest,
            size=self.features.size,
            temperature=self.alone.temperature,
            words=self.stacking.words,
            semantic=self.stacking.semantic,
            lexical=self.stacking.lexical,
            threshold=self.alone.threshold,
            share=self.alone.share,
            loss=self.alone.loss,
        )

    def relabelled(self, names: Sequence[str | None]) -> LexicalHead:
        """Returns the head under other labels, as `LinearHead.relabelled` does; at least one name is left.

        It answers nothing alone until the learner has fitted it anew: its threshold was measured on other labels.
        """
        alone = WordsAlone(self.alone.temperature, self.alone.novelty, loss=self.alone.loss, kept=self.alone.kept)
        return LexicalHead(self.features.size, merged_columns(self.weights, names), self.stacking, alone)

    @property
    def is_fast(self) -> bool:
        """Whether there are texts that it answers alone."""
        return self.alone.threshold is not None or not self.stacking.semantic

    def read(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Returns scores without offsets, shape (n, C), and rarities, shape (n,). A text has the same ones alone and
        among others.
        """
        rows = self.features.sparse(texts)
        return rows.scores(self.weights), self.alone.novelty.rarities(rows)

    def calibrated(self, scores: Floats) -> Floats:
        """Returns the probabilities, shape (n, C), of the head alone; `scores` with offsets."""
        return softmax(scores / np.float32(self.alone.temperature))

    def passes(self, texts: Sequence[str], scores: Floats) -> list[int]:
        """Returns the rows that it answers alone; `scores` with offsets."""
        if not self.stacking.semantic:  # there is nothing else to ask
            return list(range(len(texts)))
        threshold = self.alone.threshold
        if threshold is None:
            return []
        count = scores.shape[1]
        if count > 1:
            best = np.partition(scores, count - 2, axis=1)
            rows: list[int] = np.flatnonzero(best[:, -1] - best[:, -2] >= np.float32(threshold)).tolist()
        else:
            rows = list(range(len(texts)))
        return [row for row in rows if not self._keeps(texts[row])]

    def _keeps(self, text: str) -> bool:
        kept = self.alone.kept
        if not len(kept):
            return False
        number = np.uint64(kept_number(digest_text(text)))
        place = int(kept.searchsorted(number))
        return place < len(kept) and bool(kept[place] == number)
