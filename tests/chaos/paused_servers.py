"""PostgreSQL, then Redis, stand still (SIGSTOP) under a constant load: what predictions and feedback feel of it.

`python -m tests.chaos.paused_servers --seconds 60` prints a table; `make chaos` runs it. Real app, learner, PostgreSQL
and Redis, with the settings as they come but for the tiny encoder. Phases of the same length take turns: quiet, paused.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from tests.app.http.paused import Outside, outside
from tests.intents import items, labelled
from tests.processes import LENIENT, Installation, until_ready, until_settled
from tests.tiny_encoder import write_tiny_encoder

PREDICTIONS_A_SECOND = 20.0
FEEDBACK_A_SECOND = 2.0
PHASES = ("quiet", "PostgreSQL paused", "quiet", "Redis paused", "quiet")
FEEDBACK_PROMISE = 3.0


@dataclass(slots=True)
class Phase:
    """What was answered to requests that were sent in a phase."""

    name: str
    predictions: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    feedback: dict[int, list[float]] = field(default_factory=dict)
    """Seconds by status."""
    model: list[float] = field(default_factory=list)

    def row(self) -> str:
        """One line of the table, in milliseconds."""
        p50, p99 = (1e3 * float(np.percentile(self.predictions, share)) for share in (50, 99))
        answered = ", ".join(f"{len(times)} x {status}" for status, times in sorted(self.feedback.items()))
        slowest = max((max(times) for times in self.feedback.values()), default=0.0)
        told = f"{len(self.predictions)} | {len(self.failures)} | {p50:.1f} | {p99:.1f} | {answered} | {slowest:.2f}"
        return f"| {self.name} | {told} | {max(self.model, default=0.0):.2f} |"


@dataclass(slots=True)
class Report:
    """The phases in order, and what became of the feedback."""

    phases: list[Phase]
    accepted: int = 0
    learned: int = 0

    def text(self) -> str:
        """A table, and a verdict on what was promised."""
        head = "| phase | predictions | failed | p50 ms | p99 ms | feedback | slowest s | /v1/model slowest s |"
        quiet = [float(np.percentile(one.predictions, 99)) for one in self.phases if one.name == "quiet"]
        lines = [head, "|---|---|---|---|---|---|---|---|", *(one.row() for one in self.phases), ""]
        for one in self.phases:
            if one.name != "quiet":
                p99, slowest = float(np.percentile(one.predictions, 99)), max(map(max, one.feedback.values()))
                lines.append(
                    f"{one.name}: p99 {1e3 * p99:.1f} ms, quiet {1e3 * min(quiet):.1f} to {1e3 * max(quiet):.1f} ms; "
                    f"slowest feedback {slowest:.2f} s (promised: {FEEDBACK_PROMISE:g})"
                )
        lines.append(f"feedback: {self.accepted} accepted (a 503 was sent again with its key), {self.learned} learned")
        return "\n".join(lines)


class _Client:
    """Asks at a constant rate, whatever the answers do, and sorts them by the phase in which they were asked for."""

    def __init__(self, client: httpx.AsyncClient, group: asyncio.TaskGroup) -> None:
        self._client = client
        self._group = group
        self._texts = iter(labelled(10_000, seed=77))
        self.phases = [Phase("warming up")]
        self.sample_ids: list[str] = []

    async def every(self, seconds: float, what: str) -> None:
        """One request each time."""
        ask = {"predict": self._predict, "feedback": self._give, "model": self._model}[what]
        loop = asyncio.get_running_loop()
        following = loop.time()
        while True:
            self._group.create_task(ask(self.phases[-1]))
            following += seconds
            await asyncio.sleep(max(0.0, following - loop.time()))

    async def _predict(self, phase: Phase) -> None:
        text, _ = next(self._texts)
        began = time.perf_counter()
        try:
            answer = await self._client.post("/v1/predict", json={"text": text})
            if answer.status_code != httpx.codes.OK:
                phase.failures.append(answer.text)
        except httpx.HTTPError as error:
            phase.failures.append(repr(error))
        phase.predictions.append(time.perf_counter() - began)

    async def _give(self, phase: Phase) -> None:
        text, label = next(self._texts)
        headers = {"idempotency-key": uuid.uuid4().hex}
        for attempt in itertools.count():
            began = time.perf_counter()
            answer = await self._client.post("/v1/feedback", json={"text": text, "label": label}, headers=headers)
            phase.feedback.setdefault(answer.status_code, []).append(time.perf_counter() - began)
            if answer.status_code == httpx.codes.ACCEPTED:
                self.sample_ids.append(answer.json()["items"][0]["id"])
                return
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
            await asyncio.sleep(min(float(answer.headers["retry-after"]) * 2**attempt, 8.0))
            phase = self.phases[-1]

    async def _model(self, phase: Phase) -> None:
        began = time.perf_counter()
        (await self._client.get("/v1/model")).raise_for_status()
        phase.model.append(time.perf_counter() - began)


async def measure(pawl: Installation, servers: Outside, seconds: float) -> Report:
    """Runs all phases on an installation whose servers these are."""
    async with pawl.stores():
        pass  # the schema is up to date now, and the learner finds it so
    pawl.start_app()
    pawl.start_worker()
    async with pawl.client() as client:
        (await client.post("/v1/feedback", json=items(labelled(60)))).raise_for_status()
        await until_ready(client)
        async with asyncio.TaskGroup() as group:
            asking = _Client(client, group)
            rates = {"predict": PREDICTIONS_A_SECOND, "feedback": FEEDBACK_A_SECOND, "model": 1.0}
            tasks = [group.create_task(asking.every(1 / rate, what)) for what, rate in rates.items()]
            await asyncio.sleep(min(seconds, 5.0))
            for name in PHASES:
                async with _paused(name, servers):
                    asking.phases.append(Phase(name))
                    await asyncio.sleep(seconds)
            asking.phases.append(Phase("over"))
            for task in tasks:
                task.cancel()
        report = Report(asking.phases[1:-1], len(asking.sample_ids))
        for one in asking.sample_ids:
            try:
                report.learned += (await until_settled(client, one))["state"] == "learned"
            except TimeoutError:  # said by the count
                break
    return report


@asynccontextmanager
async def _paused(name: str, servers: Outside) -> AsyncIterator[None]:
    server = {"PostgreSQL paused": servers.postgres, "Redis paused": servers.redis}.get(name)
    if server is not None:
        server.pause()
    try:
        yield
    finally:
        if server is not None:
            server.resume()


def installation(folder: Path, servers: Outside, encoder: Path) -> Installation:
    """On these servers, with the deadlines as they come."""
    database = servers.postgres.url(servers.postgres.create_database())
    given = {"database_url": database, "redis_url": servers.redis.url, "encoder": encoder, "server_seconds": 2.0}
    return Installation(folder, **LENIENT, **given)


async def _run(seconds: float) -> str:
    with tempfile.TemporaryDirectory(prefix="pawl-chaos-", dir="/tmp") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - PostgreSQL runs as another user, and must get there
        with outside(folder / "servers") as servers:
            pawl = installation(folder / "home", servers, write_tiny_encoder(folder / "encoder"))
            try:
                return (await measure(pawl, servers, seconds)).text()
            finally:
                for process in pawl.processes:
                    process.kill()
                    sys.stderr.write("".join(process.output().splitlines(keepends=True)[-40:]))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each phase")
    sys.stdout.write(asyncio.run(_run(parser.parse_args().seconds)) + "\n")


if __name__ == "__main__":
    main()
