from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from app.schemas.feedback import FeedbackOut, FeedbackResponse, RetractionOut
from pawl.domain.samples import SampleState
from pawl.domain.versions import LedgerChange
from tests.app.world import World, assert_problem
from tests.polling import eventually


async def send(client: httpx.AsyncClient, body: Any, **headers: str) -> dict[str, Any]:
    response = await client.post("/v1/feedback", json=body, headers=headers)
    assert response.status_code == 202, response.text
    answer: dict[str, Any] = response.json()
    FeedbackResponse.model_validate(answer, extra="forbid")
    assert response.headers["location"] == f"/v1/feedback/{answer['items'][0]['id']}"
    return answer


async def announced(world: World, count: int) -> list[str]:
    entries = await eventually(lambda: world.stream.read("test", count, 0))
    return [one for entry in entries for one in entry.sample_ids]


async def test_a_text_is_stored_then_announced(world: World, client: httpx.AsyncClient) -> None:
    body = {
        "text": "card",
        "label": " card_arrival ",
        "weight": 2,
        "source": "me",
        "task": "topic",
        "create_task": True,
    }
    [item] = (await send(client, body))["items"]
    assert item["state"] == "queued"
    sample = await world.samples.get(item["id"])
    assert (sample.text, sample.label, sample.task, sample.weight, sample.source) == (
        "card",
        "card_arrival",
        "topic",
        2.0,
        "me",
    )
    assert await announced(world, 10) == [item["id"]]


async def test_a_prediction_is_named_by_its_id_before_and_after_it_is_in_sql(
    world: World, client: httpx.AsyncClient
) -> None:
    await world.serve(1)
    answer = (await client.post("/v1/predict", json={"texts": ["one", "two"]})).json()
    first, second = answer["predictions"]
    [item] = (await send(client, {"prediction_id": first["id"], "label": "card"}))["items"]
    sample = await world.samples.get(item["id"])
    assert (sample.text, sample.prediction_id, sample.served_version) == ("one", first["id"], 1)
    assert (sample.served_label, sample.served_by) == (first["label"], "meaning")
    await eventually(lambda: second["id"] in world.values("id", "predictions"))
    [item] = (await send(client, {"prediction_id": second["id"], "label": "card"}))["items"]
    assert (await world.samples.get(item["id"])).text == "two"
    agreed = ["yes" if answered["label"] == "card" else "no" for answered in (first, second)]
    for agrees in ("yes", "no"):
        counted = world.service.metrics.feedback_answers.labels("meaning", agrees)._value.get()
        assert counted == agreed.count(agrees)


async def test_an_unknown_prediction_is_named_with_its_place_and_nothing_is_stored(
    world: World, client: httpx.AsyncClient
) -> None:
    items = [{"text": "a", "label": "b"}, {"prediction_id": "pr_gone", "label": "b"}]
    body = assert_problem(await client.post("/v1/feedback", json={"items": items}), 422)
    assert [one["pointer"] for one in body["errors"]] == ["#/items/1/prediction_id"]
    assert "send the text instead" in body["detail"]
    assert not world.values("id", "samples")
    body = assert_problem(await client.post("/v1/feedback", json=items[1]), 422)
    assert [one["pointer"] for one in body["errors"]] == ["#/prediction_id"]


async def test_order_is_kept_and_a_repeat_names_the_first(client: httpx.AsyncClient) -> None:
    items = [{"text": text, "label": "x"} for text in ("a", "b", "A ", "c")]
    ids = [one["id"] for one in (await send(client, {"items": items}))["items"]]
    assert ids[2] == ids[0]
    assert len(set(ids)) == 3


async def test_idempotency_key(world: World, client: httpx.AsyncClient) -> None:
    body = {"text": "a", "label": "b"}
    first = await send(client, body, **{"Idempotency-Key": "k1"})
    assert await send(client, body, **{"Idempotency-Key": "k1"}) == first
    other = await client.post("/v1/feedback", json={"text": "a", "label": "c"}, headers={"Idempotency-Key": "k1"})
    assert "k1" in assert_problem(other, 422)["detail"]
    assert len(world.values("id", "samples")) == 1
    bad = await client.post("/v1/feedback", json=body, headers={"Idempotency-Key": "x" * 300})
    assert assert_problem(bad, 422)["errors"][0]["header"] == "Idempotency-Key"


async def test_accepted_without_redis(world: World, client: httpx.AsyncClient) -> None:
    await world.stream.close()
    [item] = (await send(client, {"text": "a", "label": "b"}))["items"]
    assert (await world.samples.get(item["id"])).state is SampleState.QUEUED
    failures = "pawl_announce_failures_total"
    await eventually(lambda: world.service.metrics.registry.get_sample_value(failures) == 1)
    assert [one.id for one in await world.samples.queued(10)] == [item["id"]]


async def test_where_feedback_is(world: World, client: httpx.AsyncClient) -> None:
    [item] = (await send(client, {"text": "a", "label": "b"}))["items"]
    await world.serve(1, LedgerChange(learned=(item["id"],)))
    response = await client.get(f"/v1/feedback/{item['id']}")
    FeedbackOut.model_validate(response.json(), extra="forbid")
    assert (response.json()["state"], response.json()["learned_in_version"]) == ("learned", 1)
    assert "text" not in response.json()
    for unknown in ("fb_00", "a b", "%00", "x" * 999):
        assert_problem(await client.get(f"/v1/feedback/{unknown}"), 404)
        assert_problem(await client.delete(f"/v1/feedback/{unknown}"), 404)


async def test_retraction_of_queued_and_of_learned(world: World, client: httpx.AsyncClient) -> None:
    queued, learned = (
        one["id"]
        for one in (await send(client, {"items": [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]}))["items"]
    )
    await world.serve(1, LedgerChange(learned=(learned,), trained=(learned,)))
    await announced(world, 10)
    response = await client.delete(f"/v1/feedback/{queued}")
    assert (response.status_code, response.json()["state"]) == (200, "retracted")
    response = await client.delete(f"/v1/feedback/{learned}")
    RetractionOut.model_validate(response.json(), extra="forbid")
    assert (response.status_code, response.json()["state"]) == (202, "learned")
    assert response.json()["retract_requested"] is True
    assert response.json()["versions_trained_on"] == [1]
    assert await announced(world, 10) == [learned]


async def test_a_closed_label_set_refuses_new_labels(tmp_path: Path) -> None:
    world = World(tmp_path, closed_labels=True)
    async with world.client() as client:
        await world.serve(1)
        await send(client, {"text": "a", "label": "card"})
        for item, field in (
            ({"text": "a", "label": "new"}, "label"),
            ({"text": "a", "label": "card", "task": "x"}, "task"),
        ):
            body = assert_problem(await client.post("/v1/feedback", json=item), 422)
            assert body["errors"][0]["pointer"] == f"#/{field}"
        assert len(world.values("id", "samples")) == 1


async def test_a_full_queue_is_429(tmp_path: Path) -> None:
    world = World(tmp_path, max_queued=2)
    async with world.client() as client:
        await send(client, {"items": [{"text": "a", "label": "b"}, {"text": "c", "label": "b"}]})
        body = assert_problem(await client.post("/v1/feedback", json={"text": "d", "label": "b"}), 429)
        assert "feedback queue is full (2)" in body["detail"]
        assert len(world.values("id", "samples")) == 2


async def test_without_a_prediction_log_there_are_no_ids(tmp_path: Path) -> None:
    world = World(tmp_path, log_predictions=False)
    async with world.client() as client:
        await world.serve(1)
        [prediction] = (await client.post("/v1/predict", json={"text": "a"})).json()["predictions"]
        assert prediction["id"] is None
    assert not world.values("id", "predictions")


@pytest.mark.parametrize("weight", [0, -1, 101, 0.0099, 100.1, 1e-308, 1e308, True, "1"])
async def test_weights_are_numbers_from_a_hundredth_to_100(client: httpx.AsyncClient, weight: object) -> None:
    response = await client.post("/v1/feedback", json={"text": "a", "label": "b", "weight": weight})
    assert assert_problem(response, 422)["errors"][0]["pointer"] == "#/weight"
