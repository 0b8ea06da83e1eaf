from __future__ import annotations

import httpx
import pytest

from app.schemas.dead_letters import DeadLetterOut, DeadLetterPage
from pawl.domain.samples import NewSample, SampleState
from tests.app.world import World, assert_problem
from tests.polling import eventually


async def bury(world: World, count: int, **fields: str) -> list[str]:
    found = await world.samples.accept([NewSample(f"{fields} text {n}", "card", **fields) for n in range(count)])  # type: ignore[arg-type]
    await world.samples.settle(SampleState.DEAD, {one.id: "could not be learned: ValueError()" for one in found})
    return [one.id for one in found]


async def test_dead_letters_in_pages(world: World, client: httpx.AsyncClient) -> None:
    ids = await bury(world, 3) + await bury(world, 2, source="ann")
    seen: list[str] = []
    before: int | None = None
    while True:
        response = await client.get("/v1/dead-letters", params={"limit": 2} | ({"before": before} if before else {}))
        page = response.json()
        DeadLetterPage.model_validate(page, extra="forbid")
        seen += [one["id"] for one in page["items"]]
        before = page["next"]
        if before is None:
            break
    assert seen == ids[::-1]
    assert page["count"] == 5
    for query, wanted in (
        ({"source": "ann"}, ids[3:]),
        ({"source": " an\u200bn "}, ids[3:]),
        ({"task": "default"}, ids),
        ({"label": "x"}, []),
    ):
        found = (await client.get("/v1/dead-letters", params=query)).json()["items"]
        assert [one["id"] for one in found] == wanted[::-1]
    assert_problem(await client.get("/v1/dead-letters", params={"limit": 0}), 422)


async def test_one_is_shown_redriven_announced_and_audited(world: World, client: httpx.AsyncClient) -> None:
    [sample_id] = await bury(world, 1)
    shown = await client.get(f"/v1/dead-letters/{sample_id}")
    DeadLetterOut.model_validate(shown.json(), extra="forbid")
    assert shown.json()["reason"] == "could not be learned: ValueError()"
    body = {"action": "redrive", "reason": "mended", "by": "ann"}
    first = await client.post(f"/v1/dead-letters/{sample_id}", json=body)
    assert (first.status_code, first.json()["state"]) == (200, "queued")
    assert (await client.post(f"/v1/dead-letters/{sample_id}", json=body)).status_code == 200
    entries = await eventually(lambda: world.stream.read("test", 10, 0))
    assert {one for entry in entries for one in entry.sample_ids} == {sample_id}
    decided = [one for one in await world.ledger.events(0, 100) if one.type == "dead_letter_decided"]
    assert [(one.payload["id"], one.payload["by"], one.payload["reason"]) for one in decided] == [
        (sample_id, "ann", "mended")
    ]
    assert_problem(await client.get(f"/v1/dead-letters/{sample_id}"), 409)
    assert_problem(await client.post(f"/v1/dead-letters/{sample_id}", json=body | {"action": "discard"}), 409)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "redrive"}, 422),
        ({"action": "bury", "reason": "x"}, 422),
        ({"action": "redrive", "reason": ""}, 422),
        ({"action": "redrive", "reason": "x", "more": 1}, 422),
    ],
)
async def test_a_decision_that_is_none(
    world: World, client: httpx.AsyncClient, body: dict[str, object], status: int
) -> None:
    [sample_id] = await bury(world, 1)
    assert_problem(await client.post(f"/v1/dead-letters/{sample_id}", json=body), status)
    assert (await world.samples.get(sample_id)).state is SampleState.DEAD


async def test_unknown_ids_and_feedback_that_is_not_dead(world: World, client: httpx.AsyncClient) -> None:
    [receipt] = await world.samples.accept([NewSample("text", "card")])
    body = {"action": "redrive", "reason": "x"}
    assert_problem(await client.get(f"/v1/dead-letters/{receipt.id}"), 409)
    assert_problem(await client.post(f"/v1/dead-letters/{receipt.id}", json=body), 409)
    for odd in ("fb_unknown", "%2e%2e"):
        assert_problem(await client.get(f"/v1/dead-letters/{odd}"), 404)
