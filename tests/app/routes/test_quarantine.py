from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.schemas.quarantine import QuarantinedOut, QuarantinePage
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import NewSample, SampleState
from tests.app.world import World, assert_problem
from tests.polling import eventually


async def hold(world: World, count: int, kind: QuarantineKind = QuarantineKind.FLOW, **fields: Any) -> list[str]:
    found = await world.samples.accept([NewSample(f"{fields} text {n}", "card", **fields) for n in range(count)])
    await world.samples.hold({one.id: Hold(kind, "why not") for one in found}, {})
    return [one.id for one in found]


async def decide(client: httpx.AsyncClient, id: str, action: str = "release", **more: str) -> httpx.Response:
    return await client.post(f"/v1/quarantine/{id}", json={"action": action, "reason": "looked at it", **more})


async def test_quarantined_labels_in_pages(world: World, client: httpx.AsyncClient) -> None:
    ids = await hold(world, 3) + await hold(world, 2, QuarantineKind.SOURCE, source="ann")
    seen: list[str] = []
    before: int | None = None
    while True:
        response = await client.get("/v1/quarantine", params={"limit": 2} | ({"before": before} if before else {}))
        page = response.json()
        QuarantinePage.model_validate(page, extra="forbid")
        seen += [one["id"] for one in page["items"]]
        before = page["next"]
        if before is None:
            break
    assert seen == ids[::-1]
    assert page["counts"] == {"flow": 3, "source": 2}
    for query, wanted in (({"source": "ann"}, ids[3:]), ({"kind": "flow"}, ids[:3]), ({"label": "x"}, [])):
        found = (await client.get("/v1/quarantine", params=query)).json()["items"]
        assert [one["id"] for one in found] == wanted[::-1]
    assert found == []
    assert_problem(await client.get("/v1/quarantine", params={"kind": "odd"}), 422)
    assert_problem(await client.get("/v1/quarantine", params={"limit": 0}), 422)


async def test_a_released_label_is_announced_and_audited_once(world: World, client: httpx.AsyncClient) -> None:
    [sample_id] = await hold(world, 1)
    first = await decide(client, sample_id, by="ann")
    assert first.status_code == 200
    QuarantinedOut.model_validate(first.json(), extra="forbid")
    assert (first.json()["state"], first.json()["reason"]) == ("queued", "released by ann: looked at it")
    entries = await eventually(lambda: world.stream.read("test", 10, 0))
    assert [one for entry in entries for one in entry.sample_ids] == [sample_id]
    again = await decide(client, sample_id)
    assert again.json() == first.json()
    assert_problem(await decide(client, sample_id, "discard"), 409)
    audited = [one.payload for one in await world.ledger.events(0, 100) if one.type == "quarantine_reviewed"]
    assert [(one["id"], one["action"], one["by"]) for one in audited] == [(sample_id, "release", "ann")]


async def test_a_discarded_label_is_rejected(world: World, client: httpx.AsyncClient) -> None:
    [sample_id] = await hold(world, 1)
    assert (await decide(client, sample_id, "discard")).json()["state"] == "rejected"
    assert (await client.get(f"/v1/feedback/{sample_id}")).json()["reason"] == "discarded by api: looked at it"
    assert_problem(await decide(client, sample_id), 409)


async def test_what_is_not_there_or_not_in_quarantine(world: World, client: httpx.AsyncClient) -> None:
    [receipt] = await world.samples.accept([NewSample("text", "card")])
    assert "it is queued" in assert_problem(await decide(client, receipt.id), 409)["detail"]
    assert_problem(await decide(client, "fb_no"), 404)
    assert_problem(await decide(client, "no id!"), 404)
    assert (await world.samples.get(receipt.id)).state is SampleState.QUEUED


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "release"},
        {"action": "burn", "reason": "x"},
        {"action": "release", "reason": " "},
        {"reason": "x"},
    ],
)
async def test_a_decision_needs_an_action_and_a_reason(world: World, client: httpx.AsyncClient, body: Any) -> None:
    [sample_id] = await hold(world, 1)
    assert_problem(await client.post(f"/v1/quarantine/{sample_id}", json=body), 422)
    assert (await world.samples.get(sample_id)).state is SampleState.QUARANTINED


async def test_metrics_count_what_is_in_quarantine(world: World, client: httpx.AsyncClient) -> None:
    ids = await hold(world, 3) + await hold(world, 2, QuarantineKind.SOURCE, source="ann")
    await world.service.held_back.refresh()
    text = (await client.get("/metrics")).text
    assert 'pawl_quarantined{kind="flow"} 3.0' in text
    assert 'pawl_quarantined{kind="gate"} 0.0' in text
    await decide(client, ids[0])
    await world.service.held_back.refresh()
    assert 'pawl_quarantined{kind="flow"} 2.0' in (await client.get("/metrics")).text
