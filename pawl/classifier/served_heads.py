"""All that answers are made of in one task: its semantic head, novelty, and its lexical head where it has one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pawl.classifier.head import LinearHead
from pawl.classifier.lexical_head import LexicalHead
from pawl.classifier.novelty import Novelty
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.manifest import head_file, lexical_file, novelty_file
from pawl.domain.predictions import Answer, AnsweredBy, LabelScore
from pawl.domain.versions import HeadInfo
from pawl.ports import Floats


@dataclass(frozen=True, slots=True, eq=False)
class ServedHeads:
    """The heads of one task.

    semantic  with the labels, the offsets of both heads, and the temperature of the pair.
    novelty   of the pair's answers.
    lexical   None where the task has none; then the semantic head is the pair.

    Raises:
        ValueError: The heads have different numbers of labels.
    """

    semantic: LinearHead
    novelty: Novelty
    lexical: LexicalHead | None = None

    def __post_init__(self) -> None:
        if self.lexical is not None and self.lexical.weights.shape[1] != len(self.labels):
            raise ValueError(f"lexical weights {self.lexical.weights.shape} for {len(self.labels)} labels")

    @classmethod
    def from_folder(cls, folder: Path, task: str, info: HeadInfo) -> ServedHeads:
        """Reads a task's files in a version's folder. Raises `ArtefactCorrupt`."""
        semantic = LinearHead.from_file(folder / head_file(task), info.labels, info.temperature)
        novelty = Novelty.from_file(folder / novelty_file(task))
        if info.lexical is None:
            return cls(semantic, novelty)
        path = folder / lexical_file(task)
        try:
            return cls(semantic, novelty, LexicalHead.from_file(path, info.lexical))
        except ValueError as error:
            raise ArtefactCorrupt(path=path, problem=str(error)) from error

    def packed(self, task: str) -> tuple[HeadInfo, dict[str, bytes]]:
        """What the manifest says of them, and the task's files in a version's folder."""
        semantic = self.semantic.to_bytes()
        files = {head_file(task): semantic, novelty_file(task): self.novelty.to_bytes()}
        lexical = None
        if self.lexical is not None:
            content = files[lexical_file(task)] = self.lexical.to_bytes()
            lexical = self.lexical.info(_digest(content))
        return HeadInfo(_digest(semantic), self.labels, self.semantic.temperature, lexical), files

    def relabelled(self, names: Sequence[str | None], prior_correction: float) -> ServedHeads | None:
        """Returns the heads under other labels; None where no label is left. See `LinearHead.relabelled`."""
        semantic = self.semantic.relabelled(names, prior_correction)
        if semantic is None:
            return None
        return ServedHeads(semantic, self.novelty, None if self.lexical is None else self.lexical.relabelled(names))

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the columns of both heads."""
        return self.semantic.labels

    @property
    def is_fast(self) -> bool:
        """Whether there are texts that words alone answer."""
        return self.lexical is not None and self.lexical.is_fast

    def words(self, texts: Sequence[str]) -> Floats | None:
        """Returns what the lexical head has to say: its C scores with offsets, then the rarity; shape (n, C + 1).

        None where there is no such head.
        """
        if self.lexical is None:
            return None
        scores, rarities = self.lexical.read(texts)
        words = np.empty((len(texts), len(self.labels) + 1), dtype=np.float32)
        np.add(scores, self.semantic.offsets, out=words[:, :-1])
        words[:, -1] = rarities
        return words

    def scores(self, phi: Floats, words: Floats | None) -> Floats:
        """Returns the pair's scores, shape (n, C), of features phi, (n, p), and what `words` gave for the texts.

        Raises:
            ValueError: There is a lexical head and `words` is None.
        """
        scores = self.semantic.scores(phi)
        if self.lexical is None:
            return scores
        if words is None:
            raise ValueError("the lexical head's scores are missing")
        stacking = self.lexical.stacking
        # Both have the offsets, and the shares add up to 1: the sum has them once.
        scores *= np.float32(stacking.semantic)
        scores += np.float32(stacking.lexical) * words[:, :-1]
        return scores

    def probabilities(self, phi: Floats, words: Floats | None) -> Floats:
        """Returns the pair's calibrated probabilities, shape (n, C); arguments as in `scores`."""
        return self.semantic.calibrated(self.scores(phi, words))

    def answer(self, phi: Floats, words: Floats | None, top_k: int) -> list[Answer]:
        """Returns the pair's answers for features phi, shape (n, p), n > 0; `words` as in `scores`."""
        if self.lexical is not None and words is not None and not self.lexical.stacking.semantic:
            return self._by_words(self.lexical, words, top_k)
        scores = self.scores(phi, words)
        by: AnsweredBy = "meaning" if self.lexical is None else self.lexical.stacking.by
        return self._answers(self.semantic.calibrated(scores), self.novelty.rank(phi, scores), top_k, by)

    def fast_answers(self, texts: Sequence[str], words: Floats, top_k: int) -> list[Answer | None]:
        """Returns an answer for each text that words alone answer, None for the others.

        `words` is what `words` gave for these texts.
        """
        answers: list[Answer | None] = [None] * len(texts)
        if self.lexical is not None and len(texts):
            rows = self.lexical.passes(texts, words[:, :-1])
            if rows:
                passed = words if len(rows) == len(texts) else words[rows]
                for row, answer in zip(rows, self._by_words(self.lexical, passed, top_k), strict=True):
                    answers[row] = answer
        return answers

    def _by_words(self, lexical: LexicalHead, words: Floats, top_k: int) -> list[Answer]:
        scores = words[:, :-1]
        novelty = lexical.alone.novelty.rank(words[:, -1], scores)
        return self._answers(lexical.calibrated(scores), novelty, top_k, "words")

    def _answers(self, probabilities: Floats, novelty: Floats, top_k: int, by: AnsweredBy) -> list[Answer]:
        count = max(1, min(top_k, len(self.labels)))
        return [
            Answer(
                tuple(LabelScore(self.labels[column], float(row[column])) for column in best_columns(row, count)),
                float(unusual),
                by,
            )
            for row, unusual in zip(probabilities, novelty, strict=True)
        ]


def best_columns(row: Floats, count: int) -> list[int]:
    """Returns the columns of the `count` largest numbers, largest first; of equal numbers the lower column first."""
    if count == 1:
        return [int(row.argmax())]
    threshold = np.partition(row, -count)[-count]
    columns = np.flatnonzero(row >= threshold)  # at least `count`, in rising order, so ties are all among them
    ranked: list[int] = columns[np.argsort(-row[columns], kind="stable")][:count].tolist()
    return ranked


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
