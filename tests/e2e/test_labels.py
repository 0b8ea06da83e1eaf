"""Labels changed while serving, through the real app and a real learner's process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import islice
from typing import Any

import httpx

from tests.intents import items, labelled, texts
from tests.polling import eventually
from tests.processes import LENIENT, PATIENCE, Installer, until_ready, until_settled


class Asking:
    """Asks for all labels of some texts, again and again, and keeps every label that a version answered."""

    def __init__(self, client: httpx.AsyncClient, asked: list[str]) -> None:
        self.answered: defaultdict[int, set[str]] = defaultdict(set)
        self._client = client
        self._asked = asked
        self._stop = asyncio.Event()

    async def run(self) -> None:
        while not self._stop.is_set():
            answer = await self._client.post("/v1/predict", json={"texts": self._asked, "top_k": 10})
            assert answer.status_code == httpx.codes.OK, answer.text
            body = answer.json()
            for prediction in body["predictions"]:
                self.answered[body["version"]] |= {prediction["label"], *(one["label"] for one in prediction["scores"])}

    def stop(self) -> None:
        self._stop.set()


async def until_applied(client: httpx.AsyncClient, asked: httpx.Response) -> dict[str, Any]:
    """Waits until a change is settled; what became of it."""
    assert asked.status_code == httpx.codes.ACCEPTED, asked.text
    found: dict[str, Any] = {}

    async def settled() -> bool:
        found.update((await client.get(asked.headers["location"])).json())
        return bool(found["state"] != "pending")

    await eventually(settled, PATIENCE, every=0.02)
    assert found["state"] == "applied", found
    return found


async def until_served(client: httpx.AsyncClient, version: int) -> list[str]:
    """Waits until a version answers; its labels."""
    body = {"text": "card", "min_version": version, "wait_ms": 30_000}
    assert (await client.post("/v1/predict", json=body)).status_code == httpx.codes.OK
    return list((await client.get("/v1/model")).json()["tasks"]["default"])


async def test_a_retired_label_is_never_answered_by_the_version_that_retired_it_or_any_later_one(
    install: Installer, redis_url: str
) -> None:
    """Under traffic, with feedback that names it before and after, and over a roll-back to a version that had it."""
    pawl = install.trained(redis_url=redis_url, **LENIENT)
    pawl.start_app()
    pawl.start_worker()
    async with pawl.client() as client, pawl.stores() as stores:
        await until_ready(client)
        asking = Asking(client, list(islice(texts("card", seed=5), 6)))
        load = asyncio.create_task(asking.run())
        given = [
            (await client.post("/v1/feedback", json={"text": text, "label": label})).json()["items"][0]["id"]
            for text, label in labelled(6, seed=3, labels=("card", "flight"))
        ]
        retired = await until_applied(client, await client.delete("/v1/labels/card", params={"reason": "no cards"}))
        assert "card" not in await until_served(client, retired["version"])
        late = await client.post("/v1/feedback", json={"text": "my card", "label": "card"})
        assert late.status_code == httpx.codes.UNPROCESSABLE_ENTITY
        back = await client.post("/v1/versions/1/promote", json={"reason": "test"})
        assert back.is_success, back.text
        await until_served(client, back.json()["number"])
        await client.post("/v1/feedback", json=items(labelled(3, seed=6, labels=("profit",))))
        exact = back.json()["number"] + 1
        assert "card" not in await until_served(client, exact)
        asking.stop()
        await load
        settled = [await until_settled(client, one) for one in given]
        versions = await stores.ledger.page(None, 100)
    forced = {one.number: one.gate.get("forced") for one in versions}
    assert forced[retired["version"]] == "label change"
    assert {one["state"] for one in settled if one["label"] == "card"} <= {"retracted", "rejected"}
    assert all(one["state"] in {"learned", "quarantined"} for one in settled if one["label"] == "flight")
    assert "card" in asking.answered[1]
    later = {number: found for number, found in asking.answered.items() if number >= retired["version"]}
    assert len(later) >= 2
    assert all("card" not in found for found in later.values()), later


async def test_a_label_is_renamed_and_merged_while_feedback_goes_on_under_the_old_name(
    install: Installer, redis_url: str
) -> None:
    """Nothing accepted is lost: each piece is learned, under the label of now."""
    pawl = install.trained(redis_url=redis_url, **LENIENT)
    pawl.start_app()
    pawl.start_worker()
    async with pawl.client() as client:
        await until_ready(client)
        fresh = iter(labelled(60, seed=4, labels=("card",)))
        given: list[str] = []

        async def give() -> None:
            for _ in range(30):
                text, label = next(fresh)
                answer = await client.post("/v1/feedback", json={"text": text, "label": label})
                assert answer.status_code == httpx.codes.ACCEPTED, answer.text
                given.append(answer.json()["items"][0]["id"])

        giving = asyncio.create_task(give())
        renamed = await until_applied(client, await client.patch("/v1/labels/card", json={"name": "bank/card"}))
        await giving
        await give()
        await until_applied(client, await client.patch("/v1/labels/bank%2Fcard", json={"merge_into": "transfer"}))
        settled = [await until_settled(client, one) for one in given]
        labels = {one["name"]: one for one in (await client.get("/v1/labels")).json()["items"]}
    assert {(one["state"], one["label"]) for one in settled} == {("learned", "transfer")}
    assert labels["card"]["state"] == "renamed"
    assert (labels["card"]["now"], labels["bank/card"]["now"]) == ("transfer", "transfer")
    assert labels["transfer"]["samples"]["learned"] == 80 + len(given)
    assert renamed["version"] >= 2
