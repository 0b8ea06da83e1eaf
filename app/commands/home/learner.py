"""Waiting until samples are in a final state and are served, whoever learns them.

A command waits for the condition itself, as the learner may change at any moment: a learner that starts takes over
from the child that a command started, and a child takes over from a learner that went away.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Protocol

import httpx

from app.commands.console.client import service_url
from app.commands.console.terminal import EXIT_PARTIAL, CommandFailed, notes
from app.commands.home.stores import HomeStores
from app.local.supervisor import guarded
from pawl.domain.learner import EncoderState, LearnerStatus
from pawl.installed import install_command
from pawl.processes.children import module_command
from pawl.settings import Settings

POLL_SECONDS = 0.2
_SERVE_SECONDS = 60.0
_MOST_BOOTSTRAP_FAILURES = 3
_TROUBLE_SECONDS = 60.0
"""So long a full disk, or whatever stops the learner, is waited for."""
_EVENT_PAGE = 1000


class Awaited(Protocol):
    """What the learner is to do."""

    async def left(self, stores: HomeStores) -> int:
        """Returns how much is still to be done; 0 ends the wait."""


@dataclass(frozen=True, slots=True)
class AwaitedSamples:
    """Samples that are waited for: all of some imports, and others by their ids."""

    import_ids: Sequence[str]
    sample_ids: Sequence[str] = ()

    async def left(self, stores: HomeStores) -> int:
        """Returns how many samples are still queued."""
        return await stores.samples.waiting(self.import_ids, self.sample_ids)


Told = Callable[[int], None]
"""Called with how much is left."""


def require_worker() -> None:
    """Raises `CommandFailed` where the learner's libraries are not installed."""
    missing = [name for name in ("torch", "transformers", "onnx", "peft", "optuna") if find_spec(name) is None]
    if missing:
        raise CommandFailed(
            f"learning needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            f"Install it with: {install_command('worker')}   (`pawl serve` alone works without)",
        )


async def learn_all(
    settings: Settings, stores: HomeStores, awaited: Awaited, note_left: Told, seconds: float | None = None
) -> str | None:
    """Returns when nothing is left (None), or why it will not be done now.

    Where no learner lives, one is started for as long as it takes.
    """
    loop = asyncio.get_running_loop()
    deadline, asked_at = None if seconds is None else loop.time() + seconds, datetime.now(UTC)
    trouble = _Trouble(stores, await stores.ledger.last_event_id())
    # Only from here on: what a learner that is gone said of the encoder, and events before, may have been mended since.
    child: _Child | None = None
    try:
        begun = loop.time()
        while left := await awaited.left(stores):
            note_left(left)
            if missing := await missing_for_a_first_version(settings, stores):
                return missing
            await check_encoder(stores, asked_at)
            if deadline is not None and loop.time() > deadline:
                return f"{left} rows still waited to be learned after {seconds:g} s"
            learner = await live_learner(stores)
            if (problem := await trouble.look(learner)) is not None:
                return problem
            # Another learner has the lease, so the one that was started here only stands by.
            if child is not None and learner is not None and not child.is_holder(learner):
                await child.stop()
                child = None
            elif child is None and learner is None:
                require_worker()
                child = await _Child.start(settings)
            elif child is not None and child.finished.done():
                await check_encoder(stores, asked_at)  # said in SQL before it ended
                child.finished.result()
                if learner is None and await awaited.left(stores):
                    return trouble.told or "the learner ended and left them queued"
            await asyncio.sleep(max(POLL_SECONDS, 5 * (loop.time() - begun)))  # looking must not cost much
            begun = loop.time()
        note_left(0)
        return None
    finally:
        if child is not None:
            await child.stop()


async def check_encoder(stores: HomeStores, since: datetime) -> EncoderState:
    """What a learner that lives, or lived since then, says of the encoder that was chosen.

    Raises `CommandFailed` with the reason where it cannot be used.
    """
    status = await stores.ledger.learner_status()
    if status is None or max(status.expires_at, status.heartbeat_at) < since:
        return EncoderState.UNKNOWN
    if status.encoder is EncoderState.REFUSED:
        raise CommandFailed(status.problem, "Choose another one (PAWL_ENCODER, PAWL_COMPRESSION), then start again.")
    return status.encoder


async def live_learner(stores: HomeStores) -> LearnerStatus | None:
    """Returns the status of the learner that holds an unexpired lease; None where there is none."""
    status = await stores.ledger.learner_status()
    return status if status is not None and status.expires_at > datetime.now(UTC) else None


async def missing_for_a_first_version(settings: Settings, stores: HomeStores) -> str | None:
    """Returns what the queue lacks for a first version; None where one can be made, or exists."""
    if await stores.ledger.live() is not None or await stores.samples.makes_first_version(settings.bootstrap_samples):
        return None
    queued = (await stores.samples.backlog()).length
    if await stores.ledger.live() is not None:  # made meanwhile, of what was looked at
        return None
    return f"a first version needs {settings.bootstrap_samples} samples and two labels in one task; {queued} wait"


class _Trouble:
    """Follows the problems that the learner reports from the start of the wait."""

    def __init__(self, stores: HomeStores, last_event: int) -> None:
        self._stores = stores
        self._last = last_event
        self._failures = 0
        self._since: float | None = None
        self.told = ""

    async def look(self, learner: LearnerStatus | None) -> str | None:
        """Passes on each new problem. Returns one that has lasted too long to be waited for.

        Raises `CommandFailed` when the first version fails again and again.
        """
        problem = learner.details.get("problem") if learner is not None else None
        if problem is None:
            self._since = None
        else:
            now = asyncio.get_running_loop().time()
            self._since = now if self._since is None else self._since
            self._tell(str(problem))
            if now - self._since > _TROUBLE_SECONDS:
                return f"the learner is in trouble and goes on when it is over: {problem}"
        # A first version that failed is an event of its own (worker/updates/bootstrap.py), not a `problem`.
        for event in await self._stores.ledger.events(self._last, _EVENT_PAGE):
            self._last = event.id
            if event.type == "bootstrap_failed":
                self._failures += 1
                self._tell(str(event.payload.get("problem", "")))
        if self._failures >= _MOST_BOOTSTRAP_FAILURES:
            raise CommandFailed(
                f"the learner cannot make a first version: {self.told}",
                "The rows are stored and will be learned once that is mended. See `pawl doctor`.",
            )
        return None

    def _tell(self, problem: str) -> None:
        if problem != self.told:
            notes.print(f"the learner says: {problem}", markup=False, soft_wrap=True)
            self.told = problem


class _Child:
    """`python -m worker --drain`, which does not outlive this process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.finished = asyncio.ensure_future(_wait_for(process))

    @classmethod
    async def start(cls, settings: Settings) -> _Child:
        """Starts the process."""
        env = dict(os.environ) | {"PAWL_HOME": str(settings.home_path)}
        process = await asyncio.create_subprocess_exec(
            *guarded(module_command("worker", "--drain")),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in the terminal reaches this command alone, which then stops the learner so that it gives its lease
            # back.
            start_new_session=True,
        )
        return cls(process)

    def is_holder(self, learner: LearnerStatus) -> bool:
        """Whether the lease is its own (a learner's name ends with its process id)."""
        return learner.holder.endswith(f"-{self._process.pid}")

    async def stop(self) -> None:
        """Asks the process to end, so that it gives its lease back; kills it after ten seconds."""
        if self._process.returncode is None:
            self._process.terminate()
        await asyncio.wait([self.finished], timeout=10.0)
        if self._process.returncode is None:
            self._process.kill()
            await asyncio.wait([self.finished])
        if self.finished.done():
            self.finished.exception()  # fetched, or asyncio reports an exception that nobody saw


async def _wait_for(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None  # noqa: S101 - a pipe was asked for
    tail: deque[bytes] = deque(maxlen=20)
    # To the end, though only the tail is shown: the learner would stand still before a full pipe.
    while chunk := await process.stderr.read(2**16):
        tail.extend(chunk.splitlines())
    if await process.wait() != 0:
        lines = "\n".join(line.decode("utf-8", "replace")[:1000] for line in tail)
        raise CommandFailed(
            f"the learner ended with status {process.returncode}; nothing is lost\n{lines}",
            "See `pawl doctor`, then run the same command again.",
        )


async def wait_until_served(settings: Settings, number: int) -> bool:
    """Waits until the running service answers from `number` or later; false where no service runs."""
    deadline = asyncio.get_running_loop().time() + _SERVE_SECONDS
    async with httpx.AsyncClient(base_url=service_url(settings), timeout=5.0) as client:
        while True:
            try:
                served = int((await client.get("/readyz")).json().get("version") or 0)
            except httpx.ConnectError:  # nothing listens; every other failure may pass
                return False
            except (httpx.HTTPError, AttributeError, TypeError, ValueError):
                served = 0
            if served >= number:
                return True
            if asyncio.get_running_loop().time() > deadline:
                raise CommandFailed(
                    f"version {number} was learned, but {client.base_url} does not serve it yet",
                    "See `pawl doctor`.",
                    EXIT_PARTIAL,
                )
            await asyncio.sleep(POLL_SECONDS)
