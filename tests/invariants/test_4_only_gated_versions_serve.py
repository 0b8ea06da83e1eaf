"""Only gated versions serve. The one exception is a forced promotion, which needs a reason and is in the audit log."""

from __future__ import annotations

from itertools import islice

import httpx

from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import VersionKind, VersionState
from tests.direct_solve import direct_weights
from tests.intents import items, labelled, texts
from tests.load import predicting
from tests.polling import eventually
from tests.processes import PATIENCE, Installer, Stores, until_ready, until_settled

FLIPPED = 100
"""Texts of a class with 40 samples that come with another class's label, in one request."""


async def test_flipped_labels_are_refused_as_a_batch_and_the_harmless_part_of_it_is_learned(
    install: Installer, redis_url: str
) -> None:
    pawl = install.trained(redis_url=redis_url, quarantine_window=0)  # the gate alone
    pawl.start_app()
    pawl.start_worker()
    flipped = [(text, "profit") for text in islice(texts("card", seed=9), FLIPPED)]
    harmless = labelled(20, seed=8, labels=("flight", "password"))
    judges = list(islice(texts("card", seed=77), 200))
    async with pawl.client() as client, pawl.stores() as stores:
        await until_ready(client)
        async with predicting(client, judges[:4], clients=2) as load:
            ids = await give(client, flipped + harmless)
            for sample_id in ids:
                await until_settled(client, sample_id)
            live = await stores.ledger.live()
            assert live is not None
            await eventually(lambda: live.number in load.versions, PATIENCE, every=0.05)
        bad, good = await states(stores, ids[:FLIPPED]), await states(stores, ids[FLIPPED:])
        versions = await stores.ledger.page(None, 1000)
        everything = await stores.learned() + await stores.samples.get_many(ids[:FLIPPED])
    first = versions[-2]
    assert (first.number, first.state, first.samples_new) == (2, VersionState.REFUSED, len(ids))
    assert any("class 'card' falls" in reason for reason in first.gate["reasons"])
    refused = {version.number for version in versions if version.state is VersionState.REFUSED}
    assert not refused & load.versions
    assert all(version.gate["accepted"] for version in versions if version.number not in refused)
    assert bad.count(SampleState.QUARANTINED) > FLIPPED / 3
    assert good.count(SampleState.LEARNED) >= len(good) - 2
    assert set(bad + good) == {SampleState.QUARANTINED, SampleState.LEARNED}

    model = pawl.offline(live.number)
    recall = sum(answer.label == "card" for answer in model.predict(judges)) / len(judges)
    unguarded = model.features.expand(model.embed(judges)) @ direct_weights(model, everything, 0.1)
    labels = model.heads["default"].labels
    assert sum(labels[column] == "card" for column in unguarded.argmax(1)) / len(judges) < 0.4
    assert recall > 0.6


async def test_one_sample_that_breaks_a_pinned_one_is_quarantined_and_the_rest_of_its_batch_learned(
    install: Installer, redis_url: str
) -> None:
    pawl = install.trained(redis_url=redis_url)
    pinned = next(texts("card", seed=3))
    async with pawl.stores() as stores:
        await stores.samples.accept([NewSample(pinned, "card", golden=True, pinned=True)])
        pawl.start_app()
        pawl.start_worker()
        async with pawl.client() as client:
            await until_ready(client)
            answer = await client.post(
                "/v1/feedback",
                json={
                    "items": [
                        *items(labelled(10, seed=4))["items"],
                        {"text": pinned, "label": "profit", "weight": 100.0},
                        *items(labelled(9, seed=5))["items"],
                    ]
                },
            )
            settled = [await until_settled(client, one["id"]) for one in answer.json()["items"]]
        live = await stores.ledger.live()
        assert live is not None
        model = pawl.offline(live.number)
    assert [one["state"] for one in settled].count("learned") == len(settled) - 1
    assert settled[10]["state"] == "quarantined"
    assert "pinned samples are now wrong" in settled[10]["reason"]
    assert model.predict([pinned])[0].label == "card"


async def test_a_forced_promotion_needs_a_reason_and_is_in_the_audit_log(install: Installer, redis_url: str) -> None:
    pawl = install.trained(redis_url=redis_url, gate_max_bytes=1)  # nothing passes
    pawl.start_app()
    pawl.start_worker()
    async with pawl.client() as client, pawl.stores() as stores:
        await until_ready(client)
        [sample_id] = await give(client, labelled(1, seed=6))
        assert (await until_settled(client, sample_id))["state"] == "quarantined"
        refused = (await stores.ledger.page(None, 1))[0]
        assert refused.state is VersionState.REFUSED
        assert refused.gate["reasons"]
        path = f"/v1/versions/{refused.number}/promote"
        assert (await client.post(path, json={})).status_code == httpx.codes.UNPROCESSABLE_ENTITY
        assert (await client.post(path, json={"reason": "  "})).status_code == httpx.codes.UNPROCESSABLE_ENTITY
        assert (await client.get("/v1/model")).json()["version"] == 1

        forced = await client.post(path, json={"reason": "we know better"})
        assert forced.is_success, forced.text
        number = forced.json()["number"]
        body = {"text": "card", "min_version": number, "wait_ms": 30_000}
        assert (await client.post("/v1/predict", json=body)).json()["version"] == number
        version = await stores.ledger.get(number)
        assert (version.kind, version.promoted_by, version.reason) == (VersionKind.ROLLBACK, "api", "we know better")
        assert version.gate["forced"] == "we know better"
        promoted = [one for one in await stores.ledger.events(0, 1000) if one.type == "version_promoted"]
        assert promoted[-1].payload["version"] == number
        assert promoted[-1].payload["reason"] == "we know better"
        assert promoted[-1].payload["promoted_by"] == "api"


async def give(client: httpx.AsyncClient, pairs: list[tuple[str, str]]) -> list[str]:
    """Sends feedback in one request; the ids."""
    answer = await client.post("/v1/feedback", json=items(pairs))
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return [one["id"] for one in answer.json()["items"]]


async def states(stores: Stores, ids: list[str]) -> list[SampleState]:
    return [sample.state for sample in await stores.samples.get_many(ids)]
