"""`/v1/encoder`, and settings that contradict what serves."""

from __future__ import annotations

from pathlib import Path

from pawl.domain.encoders import EncoderChoice, EncoderOrigin, EncoderRequestState
from tests.app.world import World, assert_problem
from tests.polling import eventually

ORIGIN = EncoderOrigin(EncoderChoice("some/encoder", None, None, 64, 1, "float32", 16, 0, 256), "d" * 64, None)


async def test_without_a_version_there_is_no_encoder(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.client() as client:
        assert "PAWL_ENCODER" in assert_problem(await client.get("/v1/encoder"), 409)["detail"]
        assert_problem(await client.post("/v1/encoder", json={"encoder": "another/one"}), 409)


async def test_what_serves_and_what_is_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.client() as client:
        await world.promote(world.write_version(1, made_with=ORIGIN))
        shown = (await client.get("/v1/encoder")).json()
        assert (shown["version"], shown["made_with"], shown["request"]) == (1, ORIGIN.to_json(), None)
        assert (shown["dimension"], shown["max_tokens"], shown["contradictions"]) == (32, 64, [])
        asked = await client.post("/v1/encoder", json={"encoder": "another/one", "prefix": "query: ", "reason": "why"})
        assert asked.status_code == 202
        body = asked.json()
        assert (body["state"], body["reason"], body["accept"]) == ("pending", "why", None)
        wanted = {"encoder": "another/one", "encoder_prefix": "query: ", "max_tokens": 64, "random_features": 16}
        assert wanted.items() <= body["choice"].items()
        assert (await client.get(asked.headers["location"])).json()["request"] == body
        await world.ledger.settle_encoder_request(body["id"], EncoderRequestState.FAILED, problem="it is no encoder")
        assert (await client.get("/v1/encoder")).json()["request"]["problem"] == "it is no encoder"
        for wrong in ({}, {"encoder": ""}, {"encoder": 3}, {"encoder": "a", "task": "b"}):
            assert_problem(await client.post("/v1/encoder", json=wrong), 422)


async def test_a_contradicting_setting_is_told_and_predictions_go_on(tmp_path: Path) -> None:
    world = World(tmp_path, encoder=str(tmp_path / "nowhere"))
    async with world.client() as client:
        await world.promote(world.write_version(1, made_with=ORIGIN))
        await eventually(lambda: world.service.engine.number == 1)
        [told] = (await client.get("/v1/encoder")).json()["contradictions"]
        assert "there is no such folder" in told
        assert f"pawl encoder set {tmp_path / 'nowhere'}" in told
        assert (await client.get("/v1/model")).json()["contradictions"] == [told]
        assert "pawl_settings_contradicted 1.0" in (await client.get("/metrics")).text
        await client.post("/v1/predict", json={"text": "a card"})
        await world.ledger.request_encoder(world.settings.encoder_choice, None, None)
        assert (await client.get("/v1/encoder")).json()["contradictions"] == []  # a plan now
