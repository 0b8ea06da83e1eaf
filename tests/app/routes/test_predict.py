from __future__ import annotations

import asyncio
import threading
from dataclasses import asdict

import httpx
import numpy as np
import pytest

from app.schemas.predictions import PredictResponse
from app.serving.predictions.engine import ServedClassifier
from pawl.classifier.stacking import Stacking
from pawl.ports import Encoder, VersionFolder
from tests.app.world import LABELS, World, assert_problem
from tests.polling import eventually

TEXTS = ["where is my card", "send money", "what is the weather", "refund please"]


async def test_the_answer_is_the_named_versions(world: World, client: httpx.AsyncClient) -> None:
    for number in (1, 2):
        await world.serve(number)
        response = await client.post("/v1/predict", json={"texts": TEXTS, "top_k": 2})
        assert response.status_code == 200
        assert response.headers["x-pawl-version"] == str(number)
        body = response.json()
        PredictResponse.model_validate(body, extra="forbid")
        assert body["version"] == number
        expected = world.offline(number).predict(TEXTS, top_k=2)
        for given, wanted in zip(body["predictions"], expected, strict=True):
            assert [one["label"] for one in given["scores"]] == [one.label for one in wanted.scores]
            assert np.allclose([one["score"] for one in given["scores"]], [o.score for o in wanted.scores], atol=1e-5)
            assert given["novelty"] == pytest.approx(wanted.novelty, abs=1e-4)
            assert given["by"] == wanted.by == "meaning"
            assert (given["label"], given["score"]) == (given["scores"][0]["label"], given["scores"][0]["score"])


async def test_with_two_heads_the_answer_is_the_named_versions_and_says_which_of_them_spoke(
    world: World, client: httpx.AsyncClient
) -> None:
    stacking = Stacking.of(0.3, 0.2, 0.1)
    await world.promote(world.write_version(1, stacking=stacking, threshold=0.5))
    await eventually(lambda: world.service.engine.number == 1)
    model = world.offline(1)
    texts = [f"{text} {number}" for text in TEXTS for number in range(8)]
    body = (await client.post("/v1/predict", json={"texts": texts, "top_k": 2})).json()
    PredictResponse.model_validate(body, extra="forbid")
    for given, wanted in zip(body["predictions"], model.predict(texts, top_k=2), strict=True):
        assert (given["by"], given["label"]) == (wanted.by, wanted.label)
        assert np.allclose([one["score"] for one in given["scores"]], [o.score for o in wanted.scores], atol=1e-5)
        assert given["novelty"] == pytest.approx(wanted.novelty, abs=1e-4)
    assert {given["by"] for given in body["predictions"]} == {"words", "both"}
    heads = (await client.get("/v1/versions/1")).json()["heads"]["default"]
    assert heads["lexical"] == asdict(model.heads["default"].packed("default")[0])["lexical"]
    words = (await client.get("/v1/model")).json()["words"]["default"]
    assert words == {name: heads["lexical"][name] for name in words}
    assert (words["words"], words["threshold"], words["share"], words["loss"]) == (0.3, 0.5, 0.4, 0.0)


async def test_one_text_and_top_k_beyond_the_labels(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    [prediction] = (await client.post("/v1/predict", json={"text": "card", "top_k": 10**30})).json()["predictions"]
    assert sorted(one["label"] for one in prediction["scores"]) == sorted(LABELS)
    assert sum(one["score"] for one in prediction["scores"]) == pytest.approx(1, abs=1e-4)


async def test_tasks_share_a_version(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1, topic=("a", "b"), tone=("good", "bad"))
    for task, labels in (("topic", {"a", "b"}), ("tone", {"good", "bad"})):
        body = (await client.post("/v1/predict", json={"text": "card", "task": task, "top_k": 5})).json()
        assert {one["label"] for one in body["predictions"][0]["scores"]} == labels
    body = assert_problem(await client.post("/v1/predict", json={"text": "card"}), 422)
    assert "['tone', 'topic']" in body["detail"]


async def test_an_empty_installation_is_ready_and_says_what_to_do(world: World, client: httpx.AsyncClient) -> None:
    await eventually(world.service.reloader.looked.is_set)
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert (ready.json()["status"], ready.json()["version"]) == ("ready", None)
    refused = assert_problem(await client.post("/v1/predict", json={"text": "a"}), 409)
    for told in (ready.json()["detail"], refused["detail"]):
        assert "pawl import" in told
        assert "POST /v1/feedback" in told
    model = await client.get("/v1/model")
    assert (model.status_code, model.json()["version"], model.json()["tasks"]) == (200, None, {})
    assert model.json()["queue"]["length"] == 0
    waited = await client.post("/v1/predict", json={"text": "a", "min_version": 1, "wait_ms": 1})
    assert_problem(waited, 409)


async def test_it_is_not_ready_while_the_first_version_loads(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, go_on = threading.Event(), threading.Event()
    load = world.service.reloader._load

    def slowly(folder: VersionFolder, encoder: Encoder | None) -> ServedClassifier:
        loads.set()
        assert go_on.wait(60)
        return load(folder, encoder)

    monkeypatch.setattr(world.service.reloader, "_load", slowly)
    await world.promote(world.write_version(1))
    await eventually(loads.is_set)
    for answer in (await client.get("/readyz"), await client.post("/v1/predict", json={"text": "a"})):
        assert "version 1 is being loaded" in assert_problem(answer, 503)["detail"]
    go_on.set()
    await eventually(lambda: world.service.engine.number == 1)
    assert (await client.get("/readyz")).json() == {"status": "ready", "version": 1}


async def test_min_version_waits_for_the_version(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    asked = asyncio.create_task(
        client.post("/v1/predict", json={"text": "a", "min_version": 2, "wait_ms": 20_000}), name="ask"
    )
    await asyncio.sleep(0)
    await world.serve(2)
    assert (await asked).json()["version"] == 2


async def test_min_version_not_reached_is_409(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    for wait in (0, 20):
        response = await client.post("/v1/predict", json={"text": "a", "min_version": 10**20, "wait_ms": wait})
        assert "live version is 1" in assert_problem(response, 409)["detail"]
    too_long = world.settings.max_wait_ms + 1
    response = await client.post("/v1/predict", json={"text": "a", "min_version": 1, "wait_ms": too_long})
    assert assert_problem(response, 422)["errors"] == [{"detail": "at most 30000", "pointer": "#/wait_ms"}]


async def test_request_ids_are_echoed_when_sane(world: World, client: httpx.AsyncClient) -> None:
    async def ask(given: str) -> str:
        return (await client.get("/livez", headers={"x-request-id": given})).headers["x-request-id"]

    assert await ask("abc-123/4") == "abc-123/4"
    made = await ask('"><script>')
    assert made != '"><script>'
    assert len(made) == 24


async def test_a_full_queue_is_429(tmp_path: object, world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    world.service.batcher._limit = 1
    asked = [client.post("/v1/predict", json={"texts": ["a", "b"] * 50}) for _ in range(4)]
    answers = await asyncio.gather(*asked)
    assert {one.status_code for one in answers} == {200, 429}
    assert_problem(next(one for one in answers if one.status_code == 429), 429)


async def test_predictions_do_not_need_sql_or_redis(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    world.switch_sql(on=False)
    await world.stream.close()
    answers = [await client.post("/v1/predict", json={"text": text}) for text in TEXTS]
    assert [one.status_code for one in answers] == [200] * len(TEXTS)
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.get("/livez")).status_code == 200
    model = (await client.get("/v1/model")).json()
    assert (model["version"], model["queue"]["length"], model["learner"]) == (1, 0, None), "as it was"
    assert model["age_seconds"] > 0
    assert_problem(await client.post("/v1/feedback", json={"text": "a", "label": "b"}), 503)
    assert_problem(await client.get("/v1/versions"), 503)


async def test_readiness_ends_at_once_when_the_process_drains(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    assert (await client.get("/readyz")).json() == {"status": "ready", "version": 1}
    world.service.drain()
    assert_problem(await client.get("/readyz"), 503)
    assert_problem(await client.post("/v1/predict", json={"text": "a"}), 503)
    assert (await client.get("/livez")).status_code == 200
