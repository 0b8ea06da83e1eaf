"""Words first: texts that the lexical head answers alone leave before the encoder is asked; the others go on to it.

Words cost a fiftieth of the encoder, if several texts are taken together: most of the cost of one text alone is that of
calling NumPy. So what arrives within one turn of the event loop is answered in the next, together, on the loop: handing
it to a thread and back would cost more. Requests with much text have a thread of their own, chunk by chunk, so that
neither the event loop nor a short request waits for them.

Nothing here waits for a batch of the encoder, and nothing has a place in its queue.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog

from app.metrics import AppMetrics
from app.serving.predictions.batch import cut
from app.serving.predictions.batcher import Batcher
from app.serving.predictions.engine import ServedClassifier
from pawl.domain.errors import DeadlineExceeded
from pawl.domain.predictions import Answer
from pawl.ports import Floats
from pawl.settings import Settings

log = structlog.get_logger(__name__)

# About half a microsecond a character: a millisecond for a request, and two for a turn of the loop.
_SHORT = 2048
"""Characters up to which a request is answered on the event loop, and of one chunk in the thread."""
_TURN = 4096
"""Characters from which on the rest waits for the next turn of the loop."""


@dataclass(frozen=True, slots=True)
class _ByWords:
    """What words say of some texts: an answer where they suffice, and the scores (n, C) that the pair needs of the
    others; None where they could not be had.
    """

    answers: Sequence[Answer | None]
    scores: Floats | None


@dataclass(frozen=True, eq=False, slots=True)
class _Question:
    """A request's texts that wait for the next turn of the loop."""

    classifier: ServedClassifier
    task: str
    texts: Sequence[str]
    top_k: int
    characters: int
    future: asyncio.Future[_ByWords] = field(repr=False)


class Cascade:
    """Answers by words, then by the batcher. Belongs to the event loop that calls `submit`."""

    def __init__(self, batcher: Batcher, settings: Settings, metrics: AppMetrics) -> None:
        self._batcher = batcher
        self._is_on = settings.fast_loss is not None
        self._timeout_ms = settings.predict_timeout_ms
        self._answered = metrics.predicted.labels("words")
        self._waiting: deque[_Question] = deque()
        self._thread = ThreadPoolExecutor(1, "pawl-words")

    def close(self) -> None:
        """Ends the thread after the chunk it is at."""
        self._thread.shutdown(wait=False)

    async def submit(
        self, classifier: ServedClassifier, texts: Sequence[str], *, task: str, top_k: int
    ) -> list[Answer]:
        """Answers in the order of the texts, all from `classifier`, which the caller holds a lease on.

        Raises as `Batcher.submit`, but `QueueFull` only where the encoder is needed.
        """
        if not self._is_on or not classifier.is_fast(task):
            return await self._batcher.submit(classifier, texts, task=task, top_k=top_k)
        deadline = time.monotonic() + self._timeout_ms / 1000
        characters = sum(map(len, texts))
        if characters <= _SHORT:
            by_words = await self._next_turn(classifier, texts, task, top_k, characters)
        else:
            by_words = await self._in_thread(classifier, texts, task, top_k, deadline)
        answers = list(by_words.answers)
        places = [place for place, answer in enumerate(answers) if answer is None]
        self._answered.inc(len(texts) - len(places))
        if places:
            others, scores = [texts[place] for place in places], by_words.scores
            words = scores if scores is None or len(places) == len(texts) else scores[places]
            computed = await self._batcher.submit(
                classifier, others, task=task, top_k=top_k, deadline=deadline, words=words
            )
            for place, answer in zip(places, computed, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _next_turn(
        self, classifier: ServedClassifier, texts: Sequence[str], task: str, top_k: int, characters: int
    ) -> asyncio.Future[_ByWords]:
        loop = asyncio.get_running_loop()
        question = _Question(classifier, task, texts, top_k, characters, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._answer_waiting)
        self._waiting.append(question)
        return question.future

    def _answer_waiting(self) -> None:
        groups: dict[tuple[int, str], list[_Question]] = {}
        room = _TURN
        while self._waiting and room > 0:
            question = self._waiting.popleft()
            if not question.future.done():  # else its client has gone
                room -= question.characters
                # By identity: versions are never mixed, also where two have one number in a test.
                groups.setdefault((id(question.classifier), question.task), []).append(question)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer_waiting)
        for questions in groups.values():
            _answer_together(questions)

    async def _in_thread(
        self, classifier: ServedClassifier, texts: Sequence[str], task: str, top_k: int, deadline: float
    ) -> _ByWords:
        """Chunk by chunk, so that requests take turns, and one whose client has gone ends after the present one."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                parts = [
                    await loop.run_in_executor(self._thread, _by_words, classifier, chunk, task, top_k)
                    for chunk in _chunks(texts)
                ]
        except TimeoutError:
            raise DeadlineExceeded(limit_ms=self._timeout_ms) from None
        scores = [part.scores for part in parts if part.scores is not None]
        return _ByWords(
            [answer for part in parts for answer in part.answers],
            np.concatenate(scores) if len(scores) == len(parts) else None,
        )


def _by_words(classifier: ServedClassifier, texts: Sequence[str], task: str, top_k: int) -> _ByWords:
    try:
        scores = classifier.words(texts, task)
        if scores is not None:
            return _ByWords(classifier.fast_answers(texts, scores, task, top_k), scores)
    except Exception:
        # The batcher computes the texts of each request again, where one that words fail on fails alone.
        log.exception("words_failed", version=classifier.number, texts=len(texts))
    return _ByWords([None] * len(texts), None)


def _answer_together(questions: Sequence[_Question]) -> None:
    first = questions[0]
    if len(questions) == 1:
        first.future.set_result(_by_words(first.classifier, first.texts, first.task, first.top_k))
        return
    texts = [text for question in questions for text in question.texts]
    together = _by_words(first.classifier, texts, first.task, max(question.top_k for question in questions))
    start = 0
    for question in questions:
        end = start + len(question.texts)
        answers = [answer and cut(answer, question.top_k) for answer in together.answers[start:end]]
        scores = None if together.scores is None else together.scores[start:end]
        question.future.set_result(_ByWords(answers, scores))
        start = end


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts of about `_SHORT` characters together, at least one, in their order."""
    start = size = 0
    for place, text in enumerate(texts):
        if size and size + len(text) > _SHORT:
            yield texts[start:place]
            start, size = place, 0
        size += len(text)
    yield texts[start:]
