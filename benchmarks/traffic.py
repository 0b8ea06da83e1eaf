"""A client's side of the public API: predictions in batches, feedback one label at a time, waiting until it serves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from app.commands.console.terminal import progress_bar
from benchmarks.datasets import Labelled
from benchmarks.harness import BenchmarkFailed, Json

ALL_LABELS = 1_000_000
"""A `top_k` that no label set has: every label's score comes back."""
_BATCH = 64
_CONNECTIONS = 8
_POLL_SECONDS = 0.2
_WAIT_MS = 30_000
_PAGE = 200

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to some texts, in their order: the best label, and the score of each label that was asked for."""

    labels: list[str]
    scores: list[dict[str, float]]
    versions: list[int]
    seconds: float

    def accuracy(self, rows: Sequence[Labelled]) -> float:
        """Share of right labels, in per cent."""
        right = sum(label == row.label for label, row in zip(self.labels, rows, strict=True))
        return 100.0 * right / len(rows)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of feedback: how many are in which state, the newest version that learned one, seconds until none
    was queued any more.
    """

    states: dict[str, int]
    version: int
    seconds: float


class Traffic:
    """Requests to one running service. Raises `BenchmarkFailed` for an answer that should not come."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def request(self, method: str, path: str, **arguments: Any) -> Json:
        """The JSON body of a successful answer."""
        response = await self.client.request(method, path, **arguments)
        if not response.is_success:
            raise BenchmarkFailed(f"{method} {path} answered {response.status_code}: {response.text[:500]}")
        return dict(response.json())

    async def predict(self, rows: Sequence[Labelled], top_k: int = 1, what: str = "predicting") -> Answers:
        """Answers to all texts through `POST /v1/predict`, in batches, two at a time."""

        async def one(batch: Sequence[Labelled]) -> Json:
            return await self.request(
                "POST", "/v1/predict", json={"texts": [row.text for row in batch], "top_k": top_k}
            )

        begun = time.perf_counter()
        batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        bodies = await each(batches, one, 2, what)
        found = [prediction for body in bodies for prediction in body["predictions"]]
        return Answers(
            [one["label"] for one in found],
            [{item["label"]: item["score"] for item in one["scores"]} for one in found],
            sorted({int(body["version"]) for body in bodies}),
            time.perf_counter() - begun,
        )

    async def teach(self, rows: Sequence[Labelled], what: str = "teaching") -> Outcome:
        """Sends one label in one request, over a few connections, and waits until all are learned and served."""

        async def one(row: Labelled) -> str:
            body = await self.request("POST", "/v1/feedback", json={"text": row.text, "label": row.label})
            return str(body["items"][0]["id"])

        begun = time.perf_counter()
        ids = await each(rows, one, _CONNECTIONS, f"{what}: sending")
        await self.until_learned(len(ids), f"{what}: learning")
        seconds = time.perf_counter() - begun
        states, version = await self._fate(ids, f"{what}: checking")
        await self.reach(version)
        return Outcome(states, version, seconds)

    async def reach(self, version: int) -> None:
        """Waits until `version` or a later one answers."""
        await self.request("POST", "/v1/predict", json={"text": "ready?", "min_version": version, "wait_ms": _WAIT_MS})

    async def until_learned(self, count: int, what: str) -> None:
        """Waits until nothing is queued; `count` is what the progress bar starts from."""
        with progress_bar() as bar:
            step = bar.add_task(what, total=count)
            while True:
                response = await self.client.get("/v1/model")
                if response.is_success:
                    model = response.json()
                    left = model["queue"]["length"] if model["queue"] is not None else count
                    bar.update(step, completed=count - left)
                    if not left and model["version"] is not None:
                        return
                await asyncio.sleep(_POLL_SECONDS)

    async def settle(self, seconds: float) -> int:
        """Waits until the learner is idle on the version that serves and none came for `seconds`; its number.

        In quiet moments the learner chooses lambda again, which may make one more version.
        """
        version, since = 0, time.monotonic()
        while time.monotonic() - since < seconds:
            model = await self.request("GET", "/v1/model")
            learner = model["learner"] or {}
            idle = learner.get("state") == "idle" and learner["details"].get("version") == model["version"]
            if model["version"] != version or not idle:
                version, since = int(model["version"]), time.monotonic()
            await asyncio.sleep(_POLL_SECONDS)
        return version

    async def versions(self, after: int = 0) -> list[Json]:
        """All versions with a larger number, oldest first, refused ones included."""
        found: list[Json] = []
        before: int | None = None
        while True:
            params = {"limit": _PAGE} | ({"before": before} if before is not None else {})
            page = await self.request("GET", "/v1/versions", params=params)
            found += [one for one in page["items"] if one["number"] > after]
            before = page["next"]
            if before is None or before <= after:
                return found[::-1]

    async def _fate(self, ids: Sequence[str], what: str) -> tuple[dict[str, int], int]:
        async def one(sample_id: str) -> Json:
            return await self.request("GET", f"/v1/feedback/{sample_id}")

        found = await each(ids, one, _CONNECTIONS, what)
        states = Counter(str(state["state"]) for state in found)
        return dict(states), max((state["learned_in_version"] or 0 for state in found), default=0)


@asynccontextmanager
async def traffic(url: str) -> AsyncIterator[Traffic]:
    """A client of the service at `url`."""
    limits = httpx.Limits(max_connections=_CONNECTIONS)
    timeout = httpx.Timeout(120.0, connect=5.0)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=timeout) as client:
        yield Traffic(client)


async def each(items: Sequence[T], do: Callable[[T], Awaitable[R]], at_once: int, what: str) -> list[R]:
    """`do` for every item, begun in order, `at_once` at a time, with a progress bar; results in the items' order."""
    results: dict[int, R] = {}
    waiting = iter(enumerate(items))
    with progress_bar() as bar:
        step = bar.add_task(what, total=len(items))

        async def work() -> None:
            for position, item in waiting:
                results[position] = await do(item)
                bar.advance(step)

        await asyncio.gather(*(work() for _ in range(at_once)))
    return [results[position] for position in range(len(items))]


def summary(versions: Sequence[Json]) -> Json:
    """How many versions of which kind were made, and how many the gate refused."""
    return {
        "made": len(versions),
        "kinds": dict(Counter(str(one["kind"]) for one in versions)),
        "refused": sum(one["state"] == "refused" for one in versions),
    }
