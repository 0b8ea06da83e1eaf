"""The live version, and who holds it.

One reference is replaced on a swap. A request leases the version it starts with and finishes on it; a replaced version
is let go when its last lease ends. Everything here runs on the event loop, so there are no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import structlog

from app.metrics import AppMetrics
from pawl.domain.errors import Draining, NoLiveVersion, PawlError, QueueFull, Unavailable, VersionNotReached
from pawl.domain.manifest import Manifest
from pawl.domain.predictions import Answer
from pawl.domain.reading import TextReading
from pawl.ports import Encoder, Floats

log = structlog.get_logger(__name__)


class ServedClassifier(Protocol):
    """What serving needs of a loaded version. Plain sync; the methods run in threads, several at a time."""

    @property
    def number(self) -> int:
        """The version's number."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What the version is made of."""
        ...

    @property
    def encoder(self) -> Encoder:
        """The encoder, which the next version with the same digest takes over."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d)."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens that the encoder reads of a text; 0 where it is not known."""
        ...

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """How much of each text the encoder reads; at no cost right after `embed` of the same list. May be empty."""
        ...

    def answer(self, z: Floats, task: str, top_k: int, words: Floats | None = None) -> list[Answer]:
        """One answer for each row of z; `top_k` beyond the number of labels gives all labels. `words` as below."""
        ...

    def is_fast(self, task: str) -> bool:
        """Whether words alone answer some texts of the task."""
        ...

    def words(self, texts: Sequence[str], task: str) -> Floats | None:
        """Scores of the lexical head (n, C); None where the task has none."""
        ...

    def fast_answers(self, texts: Sequence[str], words: Floats, task: str, top_k: int) -> Sequence[Answer | None]:
        """The answers of the texts that words alone suffice for, by their scores; None for the others."""
        ...


class LoadedVersion:
    """A classifier in memory, since when it serves, and how many requests hold it."""

    __slots__ = ("classifier", "leases", "since")

    def __init__(self, classifier: ServedClassifier) -> None:
        self.classifier = classifier
        self.leases = 0
        self.since = datetime.now(UTC)

    @property
    def number(self) -> int:
        """The version's number."""
        return self.classifier.number


def not_looked_yet() -> PawlError:
    """Makes the error for a service that has not yet asked which version is live."""
    return Unavailable(problem="it is starting and has not read yet which version is live.")


class Engine:
    """Holds the version that answers."""

    def __init__(self, metrics: AppMetrics, max_waiters: int) -> None:
        self._live: LoadedVersion | None = None
        self._replaced: set[LoadedVersion] = set()
        self._changed = asyncio.Event()
        self._draining = False
        self._metrics = metrics
        self._waiters = 0
        self._max_waiters = max_waiters
        # Makes a new error for each request: one that is raised again and again collects the tracebacks of all.
        self._absence: Callable[[], PawlError] = not_looked_yet
        metrics.backend_failures.set_function(self._backend_failures)
        metrics.leased_versions.set_function(lambda: len(self._replaced))
        metrics.version_waiters.set_function(lambda: self._waiters)

    def _backend_failures(self) -> int:
        return int(getattr(self._live.classifier.encoder, "failures", 0)) if self._live is not None else 0

    @property
    def live(self) -> LoadedVersion | None:
        """The version new requests get."""
        return self._live

    @property
    def number(self) -> int:
        """The live version's number, 0 while there is none."""
        return self._live.number if self._live is not None else 0

    def explain_absence(self, make_error: Callable[[], PawlError]) -> None:
        """Sets the error that is raised while no version is live. `NoLiveVersion`: nothing was ever learned."""
        self._absence = make_error

    def check_ready(self) -> LoadedVersion:
        """The live version. Raises `Draining`, or the error that explains why there is none."""
        if self._draining:
            raise Draining
        if self._live is None:
            raise self._absence()
        return self._live

    def ready(self) -> LoadedVersion | None:
        """The live version, or None where nothing was ever learned: then there is all that is needed to begin.

        Raises as `check_ready` for every other reason not to have a version.
        """
        try:
            return self.check_ready()
        except NoLiveVersion:
            return None

    @contextmanager
    def lease(self) -> Iterator[ServedClassifier]:
        """The live version's classifier, kept until the block ends. Raises as `check_ready`."""
        version = self.check_ready()
        version.leases += 1
        try:
            yield version.classifier
        finally:
            version.leases -= 1
            # The live version is never let go here, however often its leases go to 0.
            if version.leases == 0 and version in self._replaced:
                self._release(version)

    def swap(self, classifier: ServedClassifier) -> bool:
        """Puts a warm classifier live; false, and nothing happens, when its number is not above the live one's."""
        # Invariant 7, monotonic reads: a load that ended late takes no client back to an older version.
        if classifier.number <= self.number:
            return False
        old, self._live = self._live, LoadedVersion(classifier)
        self._metrics.live_version.set(classifier.number)
        self._metrics.fast_answers_share.clear()  # tasks come and go
        for task, head in classifier.manifest.heads.items():
            share = head.lexical.share if head.lexical is not None else None
            self._metrics.fast_answers_share.labels(task).set(share or 0.0)
        self._metrics.swaps.inc()
        log.info("version_swapped", version=classifier.number, replaced=old.number if old else None)
        if old is not None:
            self._replaced.add(old)
            if old.leases == 0:
                self._release(old)
        self._wake_waiters()
        return True

    def _release(self, version: LoadedVersion) -> None:
        self._replaced.discard(version)
        self._metrics.drained.inc()
        log.info("version_drained", version=version.number)

    # A fresh event each time: those who wait for a still later version look again and wait for the next swap.
    def _wake_waiters(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def drain(self) -> None:
        """Refuses new requests from now on; those that hold a lease finish."""
        # Those who wait for a version get `Draining` now, instead of after their time.
        self._draining = True
        self._wake_waiters()

    async def wait_for(self, number: int, seconds: float) -> None:
        """Returns once version `number` or a later one is live; waits at most `seconds`.

        Raises `VersionNotReached` after it, `QueueFull` when too many wait already, and as `check_ready`.
        """
        if self.number >= number and not self._draining:
            return
        if self._waiters >= self._max_waiters:
            raise QueueFull(queue="min_version", limit=self._max_waiters, retry_after=1)
        self._waiters += 1
        try:
            async with asyncio.timeout(seconds):
                # Nothing is awaited between the look and the wait, so no swap can come between them.
                while self.number < number and not self._draining:
                    await self._changed.wait()
        except TimeoutError:
            # `check_ready` first: where there is no version at all, its reason is the answer.
            raise VersionNotReached(wanted=number, live=self.check_ready().number) from None
        finally:
            self._waiters -= 1
        self.check_ready()
