"""Answers of the live version that were given before: the same text, task and `top_k` get the same answer again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from app.metrics import AppMetrics
from pawl.domain.predictions import Answer

_LONGEST_TEXT = 2000  # characters; what bounds the entries bounds the memory

Question = tuple[str, int, str]
"""Task, `top_k` and text."""


class AnswerCache:
    """The most recently used answers of one version, at most `limit`; with 0 it keeps none. Event loop only."""

    def __init__(self, limit: int, metrics: AppMetrics) -> None:
        self._limit = limit
        self._version = 0
        self._answers: OrderedDict[Question, Answer] = OrderedDict()
        self._hits = metrics.cached_texts
        metrics.answer_cache.set_function(lambda: len(self._answers))

    @property
    def enabled(self) -> bool:
        """Whether it keeps anything."""
        return self._limit > 0

    def find(self, version: int, task: str, top_k: int, texts: Sequence[str]) -> list[Answer | None]:
        """What is known of each text; forgets an older version's answers."""
        if version > self._version:
            self._version = version
            self._answers.clear()
        if version != self._version:
            # A request that leased the version before a swap: the answers of the newer one are not its own.
            return [None] * len(texts)
        known = [self._answers.get((task, top_k, text)) for text in texts]
        for text, answer in zip(texts, known, strict=True):
            if answer is not None:
                self._answers.move_to_end((task, top_k, text))
                self._hits.inc()
        return known

    def keep(self, version: int, task: str, top_k: int, texts: Sequence[str], answers: Sequence[Answer]) -> None:
        """Adds answers, unless a newer version has been asked meanwhile."""
        if version != self._version:
            return
        for text, answer in zip(texts, answers, strict=True):
            if len(text) <= _LONGEST_TEXT:
                self._answers[task, top_k, text] = answer
        while len(self._answers) > self._limit:
            self._answers.popitem(last=False)
