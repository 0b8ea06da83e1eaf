"""Continuous batching in front of the encoder.

Two threads take what is waiting, up to `max_batch` texts, compute it and take again: a lone request starts at once, and
requests that arrive while a batch runs share the next one. Tokeniser, encoder and head all run in these threads; the
event loop only puts jobs in and gets answers back. Batches never mix versions.

Few clients that each wait for their answer would all be in one batch: the cores then stand still while its answers are
written and the next requests come. With half of them in a batch of the other thread they do not (4, 8 and 16 clients:
19, 11 and 7 to 12 % more requests/s, docs/log.md). A large batch keeps the cores busy by itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from app.metrics import AppMetrics
from app.serving.predictions.engine import ServedClassifier
from pawl.domain.errors import DeadlineExceeded, Draining, QueueFull
from pawl.domain.predictions import Answer, with_warnings
from pawl.domain.reading import ReadingTotals, TextReading
from pawl.ports import Floats
from pawl.settings import Settings

log = structlog.get_logger(__name__)

# Two threads, 16 texts and the equal shares in `_fill` were measured: docs/log.md, 2026-11-25, two batches in flight.
_THREADS = 2
_ENOUGH = 16  # texts being computed: the other thread takes no more, and where no more wait the threads share them
_FEWEST = 4  # texts worth sharing


@dataclass(eq=False, slots=True)
class _Job:
    """One request's texts. `taken` of them have gone into batches; answers are filled in as batches end."""

    classifier: ServedClassifier
    texts: Sequence[str]
    task: str
    top_k: int
    deadline: float
    future: asyncio.Future[list[Answer]]
    taken: int = 0
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    abandoned: bool = False

    @property
    def left(self) -> int:
        return len(self.texts) - self.taken


@dataclass(frozen=True, eq=False, slots=True)
class _Slice:
    job: _Job
    start: int
    texts: Sequence[str]


class Batcher:
    """Bounded queue, two compute threads. `start` and `close` belong to the event loop that calls `submit`."""

    def __init__(self, settings: Settings, metrics: AppMetrics, *, threads: int = _THREADS) -> None:
        self._max_batch = settings.max_batch
        self._wait_seconds = settings.max_batch_wait_ms / 1000
        self._limit = settings.predict_queue
        self._timeout_ms = settings.predict_timeout_ms
        self._metrics = metrics
        # From here to `_arrived`, and `_idle`: shared with the compute threads, changed only under `_arrived`.
        self._jobs: deque[_Job] = deque()
        self._computing: list[_Slice] = []
        self._waiting = 0
        self._closed = False
        self._arrived = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"pawl-batcher-{number}", daemon=True) for number in range(threads)
        ]
        self._idle = 0
        metrics.queued_texts.set_function(lambda: self._waiting)
        metrics.queue_limit.set(self._limit)

    def start(self) -> None:
        """Starts the compute threads."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Ends the threads after the batches they are in; what still waits gets `Draining`."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                await asyncio.to_thread(thread.join)  # the event loop goes on: it delivers the last batches' answers
        while self._jobs:
            self._fail(self._jobs.popleft(), Draining())
        self._waiting = 0

    def longest_wait(self) -> float:
        """Seconds that the oldest request without its answer has been here, in the queue or in the batch that is being
        computed; 0 where there is none.
        """
        with self._arrived:
            oldest = min((job.deadline for job in (*self._jobs, *(part.job for part in self._computing))), default=None)
        # A job keeps its deadline only; it came `predict_timeout_ms` before that.
        return 0.0 if oldest is None else max(0.0, time.monotonic() - (oldest - self._timeout_ms / 1000))

    async def submit(
        self, classifier: ServedClassifier, texts: Sequence[str], *, task: str, top_k: int
    ) -> list[Answer]:
        """Answers in the order of the texts, all from `classifier`, which the caller holds a lease on.

        Raises `QueueFull`, `DeadlineExceeded` after `predict_timeout_ms`, and `Draining` when the batcher closes.
        """
        loop = asyncio.get_running_loop()
        seconds = self._timeout_ms / 1000
        job = _Job(classifier, texts, task, top_k, time.monotonic() + seconds, loop.create_future())
        with self._arrived:
            if self._closed:
                raise Draining
            # an empty queue takes a request of any size: otherwise one above the limit could never be answered
            if self._waiting and self._waiting + len(texts) > self._limit:
                raise QueueFull(queue="prediction", limit=self._limit, retry_after=1)
            self._jobs.append(job)
            self._waiting += len(texts)
            self._arrived.notify()
        try:
            # The threads skip jobs whose deadline is over; this ends the wait for one whose batch itself takes too
            # long.
            async with asyncio.timeout(seconds):
                return await job.future
        except TimeoutError:
            raise DeadlineExceeded(limit_ms=self._timeout_ms) from None
        finally:
            job.abandoned = True

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            if batch:
                self._compute(batch)
                with self._arrived:
                    # Slices are compared by identity (`eq=False`): equal texts of two requests are two slices.
                    self._computing = [part for part in self._computing if part not in batch]
                    self._arrived.notify()

    def _take(self) -> list[_Slice] | None:
        """The next batch, all of one version; waits for one. Empty when what waited had expired; None at the end."""
        with self._arrived:
            self._idle += 1
            while not self._closed and (not self._jobs or self._busy()):
                self._arrived.wait()
            if self._wait_seconds:
                # Releases the lock: the other thread may take all that waits meanwhile, and the batch is empty then.
                self._arrived.wait_for(
                    lambda: self._waiting >= self._max_batch or self._closed, timeout=self._wait_seconds
                )
            if self._closed:
                return None
            batch = self._fill()
            self._idle -= 1
            self._computing += batch
            if self._jobs:  # one request woke one thread; what it left is for the other
                self._arrived.notify()
            return batch

    def _busy(self) -> bool:
        """Whether the batch of the other thread is enough for all cores."""
        return sum(len(part.texts) for part in self._computing) >= _ENOUGH

    def _fill(self) -> list[_Slice]:
        batch: list[_Slice] = []
        room = self._max_batch
        # Ceiling of an equal share for each thread that waits for work; this one counts as idle until it has its batch.
        if self._waiting <= _ENOUGH:
            room = min(room, max(_FEWEST, -(-self._waiting // self._idle)))
        now = time.monotonic()
        while self._jobs and room:
            job = self._jobs[0]
            if job.abandoned or job.deadline < now:
                self._jobs.popleft()
                self._waiting -= job.left
                self._metrics.expired_texts.inc(job.left)
                continue
            # By identity, not by number: a batch has one forward pass with one encoder and one product with its heads.
            if batch and batch[0].job.classifier is not job.classifier:
                break
            count = min(room, job.left)
            batch.append(_Slice(job, job.taken, job.texts[job.taken : job.taken + count]))
            job.taken += count
            room -= count
            self._waiting -= count
            self._jobs.popleft()
            if job.left:
                # a request of many texts takes turns with the others instead of holding them up
                self._jobs.append(job)
        return batch

    def _compute(self, batch: list[_Slice]) -> None:
        started = time.perf_counter()
        try:
            answers, read = _answers(batch)
        except Exception as error:
            log.exception("batch_failed", version=batch[0].job.classifier.number, requests=len(batch))
            if len(batch) > 1:
                # one text that breaks the encoder must not fail the requests it happened to share a batch with
                for part in batch:
                    self._compute([part])
                return
            self._call_soon(self._fail, batch[0].job, error)
            return
        texts = sum(len(part.texts) for part in batch)
        self._metrics.batch_texts.observe(texts)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)
        self._metrics.predicted.inc(texts)
        self._metrics.tokens.inc(read.tokens)
        if read.unknown:
            self._metrics.unknown_tokens.inc(read.unknown)
        if read.truncated:
            self._metrics.truncated_texts.inc(read.truncated)
        self._call_soon(_deliver, batch, answers)

    def _call_soon(self, call: Callable[..., object], *args: object) -> None:
        # A future may be touched only on its loop's thread.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(call, *args)

    @staticmethod
    def _fail(job: _Job, error: Exception) -> None:
        job.abandoned = True
        if not job.future.done():
            job.future.set_exception(error)


def _answers(batch: Sequence[_Slice]) -> tuple[list[list[Answer]], ReadingTotals]:
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


def _of_heads(batch: Sequence[_Slice], z: Floats, readings: Sequence[TextReading]) -> list[list[Answer]]:
    classifier = batch[0].job.classifier
    if len(batch) == 1:
        job = batch[0].job
        return [with_warnings(classifier.answer(z, job.task, job.top_k), readings)]
    ends = np.cumsum([len(part.texts) for part in batch])
    rows = [np.arange(end - len(part.texts), end) for part, end in zip(batch, ends, strict=True)]
    results: list[list[Answer]] = [[] for _ in batch]
    for task in {part.job.task for part in batch}:
        members = [index for index, part in enumerate(batch) if part.job.task == task]
        # One product for all requests of a task, each of which then keeps its own first `top_k`.
        top_k = max(batch[index].job.top_k for index in members)
        of_task = np.concatenate([rows[index] for index in members])
        answers = iter(
            with_warnings(
                classifier.answer(z[of_task], task, top_k), [readings[row] for row in of_task] if readings else []
            )
        )
        for index in members:
            best = batch[index].job.top_k
            results[index] = [_cut(next(answers), best) for _ in batch[index].texts]
    return results


def _cut(answer: Answer, top_k: int) -> Answer:
    return answer if len(answer.scores) <= top_k else replace(answer, scores=answer.scores[:top_k])


def _deliver(batch: Sequence[_Slice], answers: Sequence[list[Answer]]) -> None:
    for part, answered in zip(batch, answers, strict=True):
        job = part.job
        job.answers[part.start] = answered  # parts of one request may come from both threads, in any order
        if sum(map(len, job.answers.values())) == len(job.texts) and not job.future.done():
            job.future.set_result([answer for _, some in sorted(job.answers.items()) for answer in some])
