"""Brings new versions into the engine: load beside the old one, verify, warm up, swap.

Hints from the stream say when to look, SQL says what is live; with either or both gone the loaded version keeps
answering. A version that cannot be loaded leaves the old one serving and is tried again with growing pauses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog

from app.metrics import AppMetrics
from app.serving.ports import Ports
from app.serving.predictions.engine import Engine, ServedClassifier
from pawl.backoff import Backoff
from pawl.domain.errors import ArtefactCorrupt, NoLiveVersion, StoreUnavailable, Unavailable
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.versions import Version, VersionState
from pawl.ports import Encoder, Floats, StreamUnavailable, VersionFolder
from pawl.settings import Settings

log = structlog.get_logger(__name__)

Load = Callable[[VersionFolder, Encoder | None], ServedClassifier]
"""Loads a verified folder; takes over the encoder it is given."""

SERVING_OLDER_EVENT = "serving_an_older_version"
_PAGE = 50
LOAD_FAILED_EVENT = "version_load_failed"
_WARM_UP_TEXT = "The quick brown fox jumps over the lazy dog."
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _Failure:
    number: int
    problem: str
    backoff: Backoff
    next_try: float


class Reloader:
    """Two loops: `follow_hints` and `run`; the second is the only one that loads."""

    def __init__(self, engine: Engine, ports: Ports, load: Load, settings: Settings, metrics: AppMetrics) -> None:
        self._engine = engine
        self._ledger = ports.ledger
        self._stream = ports.stream
        self._artefacts = ports.artefacts
        self._load = load
        self._poll_seconds = settings.poll_seconds
        self._metrics = metrics
        self._hinted = asyncio.Event()
        self._failure: _Failure | None = None
        self._warmed: tuple[Encoder, Floats] | None = None
        self.looked = asyncio.Event()
        """Set once the live version, if there was one and it could be had, serves."""

    async def follow_hints(self) -> None:
        """Turns hints into looks at SQL; reconnects when the stream's server goes away."""
        backoff = Backoff(longest=5.0)
        while True:
            try:
                async for number in self._stream.version_hints():
                    backoff.reset()
                    if number > self._engine.number:  # any other hint costs no query
                        self._hinted.set()
            except StreamUnavailable as error:
                if not backoff.failures:
                    log.warning("version_hints_unavailable", problem=str(error))
            await asyncio.sleep(backoff.next_pause())

    async def run(self) -> None:
        """Calls `look` when a hint comes, else every `poll_seconds`."""
        while True:
            await self.look()
            self.looked.set()
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self._hinted.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """Asks SQL for the live version and loads it where it is newer than the one that serves."""
        # Before SQL is asked: a hint that comes while it answers is another look.
        self._hinted.clear()
        try:
            live = await self._ledger.live()
        except StoreUnavailable as error:
            self._engine.explain_absence(partial(StoreUnavailable, problem=error.problem, said=error.said))
            return
        if live is None:
            self._engine.explain_absence(NoLiveVersion)
            return
        if live.number <= self._engine.number or not self._is_due(live.number):
            return
        # Said only while nothing serves yet; beside a version that serves nobody asks for the absence.
        loading = f"version {live.number} is being loaded; ask again in a moment."
        self._engine.explain_absence(partial(Unavailable, problem=loading))
        started = time.perf_counter()
        try:
            classifier = await asyncio.to_thread(self._load_beside, live)
        except Exception as error:  # noqa: BLE001 - whatever breaks a load, the old version goes on serving
            await self._note_failure(live.number, error)
            if not self._engine.number:  # nothing serves yet; else what serves goes on
                await self._fall_back(live)
            return
        self._failure = None
        self._metrics.load_seconds.observe(time.perf_counter() - started)
        self._engine.swap(classifier)

    async def _fall_back(self, live: Version) -> None:
        """Puts the newest version live here that was served before the damaged one and is whole.

        This happens at a start on damaged files. The next version, or the repaired one, replaces it.
        """
        older: int | None = live.number
        with suppress(StoreUnavailable):
            while page := await self._ledger.page(older, _PAGE):
                older = page[-1].number
                for version in page:
                    # Only what has served before: a refused one or a candidate never does (invariant 4).
                    if not version.artefacts_kept or version.state is not VersionState.RETIRED:
                        continue
                    try:
                        classifier = await asyncio.to_thread(self._load_beside, version)
                    except Exception as error:  # noqa: BLE001 - the one before it may be whole
                        log.warning("version_unusable", version=version.number, problem=str(error))
                        continue
                    log.error("serving_an_older_version", version=version.number, instead_of=live.number)
                    self._engine.swap(classifier)
                    await self._ledger.append_event(
                        SERVING_OLDER_EVENT,
                        {"version": version.number, "instead_of": live.number, "problem": self.problem},
                    )
                    return

    @property
    def problem(self) -> str | None:
        """Why the live version does not serve here; None where it does."""
        return f"version {self._failure.number} could not be loaded: {self._failure.problem}" if self._failure else None

    def _load_beside(self, version: Version) -> ServedClassifier:
        """Opens, verifies, loads and warms up; runs in a thread."""
        # In a thread, without a lock: only `look` swaps, and it waits for this.
        live = self._engine.live
        current = live.classifier if live is not None else None
        reuse = current is not None and current.manifest.encoder_digest == version.encoder_digest
        in_memory: frozenset[str] = frozenset()
        if current is not None and reuse:
            # only files that are not read again may go unverified
            prefix = ENCODER_FOLDER + "/"
            in_memory = frozenset(sha for path, sha in current.manifest.files.items() if path.startswith(prefix))
        folder = self._artefacts.open(version.number, skip=in_memory)
        # That the files fit their manifest was verified; that the manifest is the promoted one only SQL can say.
        if folder.manifest.encoder_digest != version.encoder_digest or folder.manifest.heads != version.heads:
            raise ArtefactCorrupt(path=str(folder.path), problem="the manifest is not the one that was promoted")
        # The same encoder is taken over: it is most of the memory and of the time that a load costs.
        classifier = self._load(folder, current.encoder if current is not None and reuse else None)
        self._warm_up(classifier)
        return classifier

    def _warm_up(self, classifier: ServedClassifier) -> None:
        """One prediction per task, so that no request pays for first allocations; refuses scores that are not finite.

        An encoder that serves already is warm: its embedding of the text is kept, as a new head comes with every
        correction.
        """
        encoder, z = self._warmed or (None, None)
        if z is None or encoder is not classifier.encoder:
            z = classifier.embed([_WARM_UP_TEXT])
        for task in classifier.manifest.heads:
            answer = classifier.answer(z, task, 1, classifier.words([_WARM_UP_TEXT], task))[0]
            if not np.isfinite(answer.score) or not np.isfinite(answer.novelty):
                problem = f"task {task!r} scores {answer.score}"
                raise ArtefactCorrupt(path=f"version {classifier.number}", problem=problem)
        self._warmed = classifier.encoder, z  # only now: what was refused must not keep its encoder in memory

    def _is_due(self, number: int) -> bool:
        failure = self._failure
        return failure is None or failure.number != number or time.monotonic() >= failure.next_try

    async def _note_failure(self, number: int, error: Exception) -> None:
        problem = str(error) or type(error).__name__
        before = self._failure if self._failure is not None and self._failure.number == number else None
        backoff = before.backoff if before else Backoff(first=self._poll_seconds, longest=_LONGEST_PAUSE_SECONDS)
        self._failure = _Failure(number, problem, backoff, time.monotonic() + backoff.next_pause())
        self._metrics.load_failures.inc()
        serving = self._engine.number
        failed = f"version {number} could not be loaded ({problem}). Run `pawl doctor`."
        self._engine.explain_absence(partial(Unavailable, problem=failed))
        # One log line and one event for a problem, not for each try.
        if before is not None and before.problem == problem:
            return
        log.error(LOAD_FAILED_EVENT, version=number, serving=serving or None, problem=problem)
        try:
            await self._ledger.append_event(
                LOAD_FAILED_EVENT, {"version": number, "serving": serving or None, "problem": problem}
            )
        except StoreUnavailable as unavailable:
            log.warning("event_not_written", type=LOAD_FAILED_EVENT, problem=str(unavailable))
