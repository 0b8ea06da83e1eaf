"""A client that saw version n never gets an older one by chance; a roll-back goes forward, and its event says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle, pairwise

import httpx
import pytest

from tests.app.world import assert_problem
from tests.intents import labelled
from tests.polling import eventually
from tests.processes import LENIENT, PATIENCE, Installer, free_port, until_ready, until_settled

TEXT = labelled(1, seed=70)[0][0]
STEPS = 12
ROLL_BACK_AT = 7
WAIT_MS = 30_000


@asynccontextmanager
async def reading(apps: list[httpx.AsyncClient], *, carries: bool) -> AsyncIterator[list[int]]:
    """One client that asks the apps in turn while the block lasts; the versions that answered, in order.

    With `carries` it sends the last version it saw as `min_version`, as a client behind a load balancer does.
    """
    seen: list[int] = []
    over = asyncio.Event()

    async def read() -> None:
        for app in cycle(apps):
            if over.is_set():
                return
            wanted = {"min_version": seen[-1], "wait_ms": WAIT_MS} if carries and seen else {}
            answer = await app.post("/v1/predict", json={"text": TEXT, **wanted})
            assert answer.status_code == httpx.codes.OK, answer.text
            assert int(answer.headers["x-pawl-version"]) == answer.json()["version"]
            seen.append(answer.json()["version"])

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        try:
            yield seen
        finally:
            over.set()


@pytest.mark.timeout(300)
async def test_versions_only_grow_for_every_client_through_swaps_and_a_roll_back(
    install: Installer, redis_url: str
) -> None:
    pawl = install.trained(redis_url=redis_url, max_wait_ms=WAIT_MS, **LENIENT)
    ports = [pawl.settings.port, free_port()]
    for port in ports:
        pawl.start_app(port=port)
    pawl.start_worker()
    async with pawl.client(ports[0]) as one, pawl.client(ports[1]) as other:
        for app in (one, other):
            await until_ready(app)
        async with (
            reading([one], carries=False) as first,
            reading([one], carries=False) as second,
            reading([other], carries=False) as third,
            reading([one, other], carries=True) as balanced,
        ):
            readers = [first, second, third, balanced]
            made: list[int] = []
            rolled_back = 0
            for step, (text, label) in enumerate(labelled(STEPS, seed=71)):
                if step == ROLL_BACK_AT:
                    rolled_back = await _roll_back(one, made[1])
                    assert rolled_back > made[-1]
                    made.append(rolled_back)
                receipt = await one.post("/v1/feedback", json={"text": text, "label": label})
                settled = await until_settled(one, receipt.json()["items"][0]["id"])
                assert settled["state"] == "learned"
                made.append(settled["learned_in_version"])
                await _read_own(other, made[-1])
                await eventually(partial(_have_seen, readers, made[-1]), PATIENCE, every=0.01)
        assert all(before < after for before, after in pairwise(made))
        assert len(made) == STEPS + 1
        for seen in readers:
            assert seen == sorted(seen)
            assert len(set(seen)) > STEPS // 2  # a client that never met a swap would say nothing
        version = (await other.get(f"/v1/versions/{rolled_back}")).json()
        assert (version["kind"], version["reason"]) == ("rollback", "a test of it")
        assert f'"version": {rolled_back}' in await _events(other, '"kind": "rollback"')
        await _refuse_the_future(one)


async def _roll_back(client: httpx.AsyncClient, target: int) -> int:
    answer = await client.post(f"/v1/versions/{target}/promote", json={"reason": "a test of it"})
    assert answer.status_code == httpx.codes.OK, answer.text
    return int(answer.json()["number"])


async def _read_own(client: httpx.AsyncClient, version: int) -> None:
    """Asks an app that need not have heard of the version yet."""
    body = {"text": TEXT, "min_version": version, "wait_ms": WAIT_MS}
    answer = await client.post("/v1/predict", json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert int(answer.headers["x-pawl-version"]) >= version


async def _refuse_the_future(client: httpx.AsyncClient) -> None:
    for wait in (0, 100):
        body = {"text": TEXT, "min_version": 10**6, "wait_ms": wait}
        answer = await client.post("/v1/predict", json=body)
        assert_problem(answer, httpx.codes.CONFLICT)
        assert "x-pawl-version" not in answer.headers


def _have_seen(readers: list[list[int]], version: int) -> bool:
    return all(seen and seen[-1] >= version for seen in readers)


async def _events(client: httpx.AsyncClient, until: str) -> str:
    """The data of the event that holds `until`, read from the first event on."""
    async with client.stream("GET", "/v1/events", headers={"last-event-id": "0"}) as stream:
        async with asyncio.timeout(PATIENCE):
            async for line in stream.aiter_lines():
                if until in line:
                    return line
    raise AssertionError(f"no event says {until}")
