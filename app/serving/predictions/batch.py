"""One batch of the batcher: texts of several requests, one version. Runs in a compute thread, but for `deliver`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.serving.predictions.engine import ServedClassifier
from pawl.domain.predictions import Answer, with_warnings
from pawl.domain.reading import ReadingTotals, TextReading
from pawl.ports import Floats


@dataclass(eq=False, slots=True)
class Job:
    """One request's texts. `taken` of them have gone into batches; answers are filled in as batches end. `words` are
    the lexical head's scores (n, C) where they are known already.
    """

    classifier: ServedClassifier
    texts: Sequence[str]
    task: str
    top_k: int
    deadline: float
    future: asyncio.Future[list[Answer]]
    words: Floats | None
    taken: int = 0
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    abandoned: bool = False

    @property
    def left(self) -> int:
        """Texts that are in no batch yet."""
        return len(self.texts) - self.taken


@dataclass(frozen=True, eq=False, slots=True)
class Slice:
    """A part of a request in a batch; compared by identity: equal texts of two requests are two slices."""

    job: Job
    start: int
    texts: Sequence[str]

    @property
    def words(self) -> Floats | None:
        """The lexical head's scores of these texts, where they are known."""
        known = self.job.words
        return None if known is None else known[self.start : self.start + len(self.texts)]


def answers_of(batch: Sequence[Slice]) -> tuple[list[list[Answer]], ReadingTotals]:
    """One forward pass over all texts, then one product with the head for each task in the batch; what was read."""
    classifier = batch[0].job.classifier
    texts = [text for part in batch for text in part.texts]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    once = list(places)
    # z: (texts once, d). `read` of the same list in the same thread takes over the tokens that `embed` made.
    z = classifier.embed(once)
    readings = classifier.read(once)
    if len(places) < len(texts):  # the same text for two tasks, or from two clients, is embedded once
        rows = [places[text] for text in texts]
        z, readings = z[rows], [readings[row] for row in rows] if readings else []
    return _of_heads(batch, z, readings), ReadingTotals.of(readings)


def _of_heads(batch: Sequence[Slice], z: Floats, readings: Sequence[TextReading]) -> list[list[Answer]]:
    classifier = batch[0].job.classifier
    if len(batch) == 1:
        job = batch[0].job
        return [with_warnings(classifier.answer(z, job.task, job.top_k, _words(batch)), readings)]
    ends = np.cumsum([len(part.texts) for part in batch])
    rows = [np.arange(end - len(part.texts), end) for part, end in zip(batch, ends, strict=True)]
    results: list[list[Answer]] = [[] for _ in batch]
    for task in {part.job.task for part in batch}:
        members = [index for index, part in enumerate(batch) if part.job.task == task]
        # One product for all requests of a task, each of which then keeps its own first `top_k`.
        top_k = max(batch[index].job.top_k for index in members)
        of_task = np.concatenate([rows[index] for index in members])
        words = _words([batch[index] for index in members])
        answers = iter(
            with_warnings(
                classifier.answer(z[of_task], task, top_k, words),
                [readings[row] for row in of_task] if readings else [],
            )
        )
        for index in members:
            best = batch[index].job.top_k
            results[index] = [cut(next(answers), best) for _ in batch[index].texts]
    return results


def _words(parts: Sequence[Slice]) -> Floats | None:
    """The lexical head's scores of all texts of one task: those that are known, or computed now."""
    known = [part.words for part in parts if part.words is not None]
    if len(known) == len(parts):
        return np.concatenate(known)
    classifier, task = parts[0].job.classifier, parts[0].job.task
    return classifier.words([text for part in parts for text in part.texts], task)


def cut(answer: Answer, top_k: int) -> Answer:
    """The answer with its `top_k` best labels alone."""
    return answer if len(answer.scores) <= top_k else replace(answer, scores=answer.scores[:top_k])


def deliver(batch: Sequence[Slice], answers: Sequence[list[Answer]]) -> None:
    """Gives a batch's answers to the requests; on the event loop."""
    for part, answered in zip(batch, answers, strict=True):
        job = part.job
        job.answers[part.start] = answered  # parts of one request may come from both threads, in any order
        if sum(map(len, job.answers.values())) == len(job.texts) and not job.future.done():
            job.future.set_result([answer for _, some in sorted(job.answers.items()) for answer in some])
