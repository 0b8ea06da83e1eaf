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
from collections import Counter, deque
from collections.abc import Callable, Sequence

import structlog

from app.metrics import AppMetrics
from app.serving.predictions.batch import Job, Slice, answers_of, deliver
from app.serving.predictions.engine import ServedClassifier
from pawl.domain.errors import DeadlineExceeded, Draining, QueueFull
from pawl.domain.predictions import Answer
from pawl.ports import Floats
from pawl.settings import Settings

log = structlog.get_logger(__name__)

# Two threads, 16 texts and the equal shares in `_fill` were measured: docs/log.md, 2026-11-25, two batches in flight.
_THREADS = 2
_ENOUGH = 16  # texts being computed: the other thread takes no more, and where no more wait the threads share them
_FEWEST = 4  # texts worth sharing


class Batcher:
    """Bounded queue, two compute threads. `start` and `close` belong to the event loop that calls `submit`."""

    def __init__(self, settings: Settings, metrics: AppMetrics, *, threads: int = _THREADS) -> None:
        self._max_batch = settings.max_batch
        self._wait_seconds = settings.max_batch_wait_ms / 1000
        self._limit = settings.predict_queue
        self._timeout_ms = settings.predict_timeout_ms
        self._metrics = metrics
        # From here to `_arrived`, and `_idle`: shared with the compute threads, changed only under `_arrived`.
        self._jobs: deque[Job] = deque()
        self._computing: list[Slice] = []
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
        self,
        classifier: ServedClassifier,
        texts: Sequence[str],
        *,
        task: str,
        top_k: int,
        deadline: float | None = None,
        words: Floats | None = None,
    ) -> list[Answer]:
        """Answers in the order of the texts, all from `classifier`, which the caller holds a lease on.

        Args:
            classifier: The version.
            texts: At least one.
            task: One of the version's.
            top_k: Best labels of each answer.
            deadline: On the clock `time.monotonic`; by default `predict_timeout_ms` from now.
            words: `classifier.words` of the texts, where somebody has asked already.

        Raises `QueueFull`, `DeadlineExceeded`, and `Draining` when the batcher closes.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        deadline = now + self._timeout_ms / 1000 if deadline is None else deadline
        job = Job(classifier, texts, task, top_k, deadline, loop.create_future(), words)
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
            async with asyncio.timeout(deadline - now):
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

    def _take(self) -> list[Slice] | None:
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

    def _fill(self) -> list[Slice]:
        batch: list[Slice] = []
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
            batch.append(Slice(job, job.taken, job.texts[job.taken : job.taken + count]))
            job.taken += count
            room -= count
            self._waiting -= count
            self._jobs.popleft()
            if job.left:
                # a request of many texts takes turns with the others instead of holding them up
                self._jobs.append(job)
        return batch

    def _compute(self, batch: list[Slice]) -> None:
        started = time.perf_counter()
        try:
            answers, read = answers_of(batch)
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
        for by, count in Counter(answer.by for some in answers for answer in some).items():
            self._metrics.predicted.labels(by).inc(count)
        self._metrics.tokens.inc(read.tokens)
        if read.unknown:
            self._metrics.unknown_tokens.inc(read.unknown)
        if read.truncated:
            self._metrics.truncated_texts.inc(read.truncated)
        self._call_soon(deliver, batch, answers)

    def _call_soon(self, call: Callable[..., object], *args: object) -> None:
        # A future may be touched only on its loop's thread.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(call, *args)

    @staticmethod
    def _fail(job: Job, error: Exception) -> None:
        job.abandoned = True
        if not job.future.done():
            job.future.set_exception(error)
