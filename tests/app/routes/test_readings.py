"""Answers and receipts say what the encoder could not read."""

from __future__ import annotations

from pathlib import Path

from tests.app.world import World

LONG = "where is my card " * 40


async def test_a_prediction_says_what_could_not_be_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.client() as client:
        await world.serve(1)
        texts = ["where is my card", LONG, "你好 世界", LONG + " 你好"]
        found = (await client.post("/v1/predict", json={"texts": texts})).json()["predictions"]
        assert "warnings" not in found[0]
        assert found[1]["warnings"] == ["truncated"]
        [told] = found[2]["warnings"]
        assert told.startswith("unknown_language: the encoder does not know this language")
        assert found[3]["warnings"] == ["truncated"]
        again = (await client.post("/v1/predict", json={"texts": [LONG, LONG, "my card"]})).json()["predictions"]
        assert [one.get("warnings") for one in again] == [["truncated"], ["truncated"], None]
        metrics = (await client.get("/metrics")).text
        assert "pawl_predict_truncated_texts_total 4.0" in metrics
        assert "pawl_predict_unknown_tokens_total 4.0" in metrics


async def test_a_label_that_cannot_hold_is_told_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.client() as client:
        await world.serve(1)
        live = world.service.engine.live
        assert live is not None
        first = (await client.post("/v1/feedback", json={"text": LONG + "one", "label": "card"})).json()["items"][0]
        assert first["warnings"] == ["truncated"]
        [reading] = live.classifier.read([LONG + "one"])
        digest = live.classifier.manifest.encoder_digest
        z = live.classifier.embed([LONG + "one"])
        await world.samples.put_embeddings(digest, {first["id"]: z[0]}, {first["id"]: str(reading.cut)})
        second = (await client.post("/v1/feedback", json={"text": LONG + "two", "label": "money"})).json()["items"][0]
        assert second["warnings"][0] == "truncated"
        assert f"first 64 tokens, and to it this text is the same as that of {first['id']}" in second["warnings"][1]
        same = (await client.post("/v1/feedback", json={"text": LONG + "three", "label": "card"})).json()["items"][0]
        assert same["warnings"] == ["truncated"]
        state = (await client.get(f"/v1/feedback/{second['id']}")).json()
        assert state["warnings"] == second["warnings"]
        short = (await client.post("/v1/feedback", json={"text": "my card", "label": "card"})).json()["items"][0]
        assert "warnings" not in short


async def test_a_request_says_once_which_encoder_would_read_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.client() as client:
        await world.serve(1)
        items = [{"text": text, "label": "card"} for text in ("你好 世界", "my card", "再见 世界", "世界 你好")]
        made = (await client.post("/v1/feedback", json={"items": items})).json()["items"]
        [first] = made[0]["warnings"]
        assert "`pawl encoder set multilingual`" in first
        assert [receipt.get("warnings") for receipt in made[1:]] == [None, ["unknown_language"], ["unknown_language"]]
