"""Waiting until what is queued has been learned and is served, with or without a learner that runs already."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.util import find_spec

import httpx

from app.commands.client import service_url
from app.commands.stores import Stores
from app.commands.terminal import CommandFailed
from app.core.child_processes import module_command
from app.core.settings import Settings
from app.supervisor import guarded

POLL_SECONDS = 0.2
_LOST_LEARNER_SECONDS = 60.0
_SERVE_SECONDS = 60.0

Waiting = Callable[[int], None]
"""Called with the number of samples that still wait."""


def require_worker() -> None:
    """Raises `CommandFailed` where the learner's libraries are not installed."""
    missing = [name for name in ("torch", "transformers", "onnx", "peft", "optuna") if find_spec(name) is None]
    if missing:
        raise CommandFailed(
            f"learning needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            "Install it with: pip install 'pawl-server[worker]'   (`pawl serve` alone works without)",
        )


async def learner_is_alive(stores: Stores) -> bool:
    """Whether a learner holds an unexpired lease."""
    status = await stores.ledger.learner_status()
    return status is not None and status.expires_at > datetime.now(UTC)


async def learn_up_to(settings: Settings, stores: Stores, seq: int, waiting: Waiting) -> None:
    """Returns when no sample up to `seq` is queued any more.

    A running learner does it; where there is none, one is started for as long as it takes.
    """
    if await learner_is_alive(stores):
        await _wait_for_learner(stores, seq, waiting)
    else:
        require_worker()
        async with _draining(settings) as finished:
            while not finished.done():
                waiting((await stores.samples.backlog()).length)
                await asyncio.wait([finished], timeout=POLL_SECONDS)
            await finished
    waiting(0)


async def _wait_for_learner(stores: Stores, seq: int, waiting: Waiting) -> None:
    """Raises `CommandFailed` when the learner goes away for good; a restarted one is waited for."""
    last_seen = asyncio.get_running_loop().time()
    while True:
        oldest = await stores.samples.queued(1)
        if not oldest or oldest[0].seq > seq:
            return
        waiting((await stores.samples.backlog()).length)
        now = asyncio.get_running_loop().time()
        if await learner_is_alive(stores):
            last_seen = now
        elif now - last_seen > _LOST_LEARNER_SECONDS:
            raise CommandFailed(
                "the learner stopped before everything was learned; nothing is lost",
                "Start it with `pawl up` or `pawl work`, or run the same import again.",
            )
        await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def _draining(settings: Settings) -> AsyncIterator[asyncio.Future[None]]:
    """`python -m worker --drain` as a child that does not outlive this process."""
    env = dict(os.environ) | {"PAWL_HOME": str(settings.home_path)}
    process = await asyncio.create_subprocess_exec(
        *guarded(module_command("worker", "--drain")),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    finished = asyncio.ensure_future(_wait_for_drain(process))
    try:
        yield finished
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait([finished], timeout=10.0)
        if process.returncode is None:
            process.kill()


async def _wait_for_drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None  # noqa: S101 - a pipe was asked for
    tail: deque[bytes] = deque(maxlen=20)
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
            except httpx.ConnectError:
                return False
            except (httpx.HTTPError, AttributeError, TypeError, ValueError):
                served = 0
            if served >= number:
                return True
            if asyncio.get_running_loop().time() > deadline:
                raise CommandFailed(
                    f"version {number} was learned, but {client.base_url} does not serve it yet", "See `pawl doctor`."
                )
            await asyncio.sleep(POLL_SECONDS)
