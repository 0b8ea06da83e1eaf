from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.schemas.versions import ModelOut, PreviewOut, PromotedOut, VersionOut, VersionPage
from app.serving.ports import Ports
from pawl.domain.errors import ParentNotLive
from pawl.domain.quarantine import Review, ReviewAction
from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import CONSOLIDATION_ASKED, LedgerChange, NewVersion, Version, VersionKind
from pawl.versions.rollback import PENDING_EVENT, promote_again
from tests.app.world import LABELS, World, assert_problem
from tests.polling import eventually


async def store(world: World, *texts: str) -> list[str]:
    return [one.id for one in await world.samples.accept([NewSample(text, "card") for text in texts])]


async def promote(client: httpx.AsyncClient, number: int, reason: str = "it was better") -> httpx.Response:
    return await client.post(f"/v1/versions/{number}/promote", json={"reason": reason})


async def test_versions_newest_first_in_pages(world: World, client: httpx.AsyncClient) -> None:
    for number in range(1, 6):
        await world.promote(world.write_version(number))
    seen: list[int] = []
    before: int | None = None
    while True:
        response = await client.get("/v1/versions", params={"limit": 2} | ({"before": before} if before else {}))
        VersionPage.model_validate(response.json(), extra="forbid")
        seen += [one["number"] for one in response.json()["items"]]
        before = response.json()["next"]
        if before is None:
            break
    assert seen == [5, 4, 3, 2, 1]


async def test_one_version_whole(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    response = await client.get("/v1/versions/1")
    VersionOut.model_validate(response.json(), extra="forbid")
    assert response.json()["heads"]["default"]["labels"] == list(LABELS)
    assert (response.json()["state"], response.json()["gate"]) == ("live", {})
    assert "no version 7" in assert_problem(await client.get("/v1/versions/7"), 404)["detail"]


async def test_the_model(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    model = (await client.get("/v1/model")).json()
    ModelOut.model_validate(model, extra="forbid")
    assert (model["version"], model["tasks"]) == (1, {"default": list(LABELS)})
    assert (model["queue"], model["learner"]) == ({"length": 0, "oldest_age_seconds": None}, None)
    await store(world, "a")
    assert await world.ledger.acquire_lease("w1", 60, "learning", {"seen": 3})
    model = (await client.get("/v1/model")).json()
    ModelOut.model_validate(model, extra="forbid")
    assert model["queue"]["length"] == 1
    assert model["queue"]["oldest_age_seconds"] >= 0
    assert (model["learner"]["alive"], model["learner"]["details"]) == (True, {"seen": 3})


async def test_rolling_back_goes_forward(world: World, client: httpx.AsyncClient) -> None:
    first, second, third, gone = await store(world, "a", "b", "c", "d")
    await world.serve(1, LedgerChange(learned=(first, gone)))
    await world.serve(2, LedgerChange(learned=(second,)))
    await world.serve(3, LedgerChange(learned=(third,), unlearned={gone: "retracted"}))
    texts = ["where is my card"]
    response = await promote(client, 1)
    assert response.status_code == 200, response.text
    PromotedOut.model_validate(response.json(), extra="forbid")
    made = response.json()
    assert (made["number"], made["parent"], made["kind"], made["trigger"]) == (4, 3, "rollback", "rollback")
    assert (made["reason"], made["promoted_by"], made["state"]) == ("it was better", "api", "live")
    assert made["gate"]["forced"] == "it was better"
    assert made["gate"]["pending_unlearn"] == [gone]
    assert made["heads"] == (await client.get("/v1/versions/1")).json()["heads"]

    states = {one.id: one for one in await world.samples.get_many([first, second, third, gone])}
    assert {one: states[one].state for one in states} == {
        first: SampleState.LEARNED,
        second: SampleState.QUARANTINED,
        third: SampleState.QUARANTINED,
        gone: SampleState.RETRACTED,
    }
    assert states[second].reason == "roll-back to version 1 by 4 (api)"
    events = await world.ledger.events(0, 100)
    assert [one.payload["pending_unlearn"] for one in events if one.type == PENDING_EVENT] == [[gone]]

    await eventually(lambda: world.service.engine.number == 4)
    answer = (await client.post("/v1/predict", json={"texts": texts, "top_k": 3})).json()
    assert answer["version"] == 4
    [wanted] = world.offline(1).predict(texts, top_k=3)
    assert [one["label"] for one in answer["predictions"][0]["scores"]] == [one.label for one in wanted.scores]


async def test_back_and_forth(world: World, client: httpx.AsyncClient) -> None:
    (first,) = await store(world, "a")
    await world.serve(1)
    await world.serve(2, LedgerChange(learned=(first,)))
    assert (await promote(client, 1)).json()["number"] == 3
    assert (await world.samples.get(first)).state is SampleState.QUARANTINED
    made = (await promote(client, 2)).json()
    assert (made["number"], made["parent"]) == (4, 3)
    # version 2's head holds the sample, the ledger does not: the learner takes it out with its next update
    assert made["gate"]["pending_unlearn"] == [first]


async def test_a_forced_version_is_exactly_what_it_was_when_it_was_refused_with_its_samples(
    world: World, client: httpx.AsyncClient
) -> None:
    old, first, second, later = await store(world, "a", "b", "c", "d")
    gone, discarded = await store(world, "e", "f")
    await world.serve(1, LedgerChange(learned=(old,)))
    refused = world.write_version(2)
    change = LedgerChange(learned=(first, second, gone, discarded), replaced={old: second})
    await world.ledger.refuse(refused, change, {first: "harms: it broke refunds", discarded: "harms: it broke refunds"})
    await world.serve(3, LedgerChange(learned=(second, later)))
    await world.samples.request_retraction(gone)
    await world.samples.review(discarded, Review(ReviewAction.DISCARD, "nonsense", "ann"))

    before = [one.state for one in await world.samples.get_many([old, first, second, later, gone, discarded])]
    seen = (await client.post("/v1/versions/2/promote", json={"dry_run": True})).json()
    PreviewOut.model_validate(seen, extra="forbid")
    assert (seen["target"], seen["kind"], seen["live"]) == (2, "forced", 3)
    assert [one.state for one in await world.samples.get_many([old, first, second, later, gone, discarded])] == before
    assert world.values("number", "versions")[-1] == 3

    made = (await promote(client, 2)).json()
    PromotedOut.model_validate(made, extra="forbid")
    assert (made["number"], made["kind"], made["trigger"]) == (4, "rollback", "forced")
    assert made["effect"] == seen["effect"]
    away, back, out = (made["effect"][name] for name in ("takes_away", "brings_back", "stays_out"))
    assert (away["count"], away["states"], away["ids"]) == (2, {"queued": 1, "retracted": 1}, sorted([old, later]))
    assert (back["count"], back["classes"], back["ids"]) == (1, {"default": {"card": 1}}, [first])
    assert (out["states"], out["ids"]) == ({"retracted": 1, "rejected": 1}, sorted([gone, discarded]))
    found = {one.id: one for one in await world.samples.get_many([old, first, second, later])}
    assert {id: found[id].state for id in found} == {
        old: SampleState.RETRACTED,
        first: SampleState.LEARNED,
        second: SampleState.LEARNED,
        later: SampleState.QUEUED,
    }
    assert "on top of version 2" in (found[later].reason or "")
    assert sorted(made["gate"]["pending_unlearn"]) == sorted([gone, discarded])
    assert (await client.get("/v1/versions/2")).json()["state"] == "refused"


async def test_a_dry_run_of_a_roll_back_says_what_it_takes_away(world: World, client: httpx.AsyncClient) -> None:
    first, second = await store(world, "a", "b")
    await world.serve(1, LedgerChange(learned=(first,)))
    await world.serve(2, LedgerChange(learned=(second,)))
    seen = (await client.post("/v1/versions/1/promote", json={"dry_run": True})).json()
    assert (seen["kind"], seen["effect"]["takes_away"]["states"]) == ("rollback", {"quarantined": 1})
    assert (await promote(client, 1)).json()["effect"] == seen["effect"]
    assert_problem(await client.post("/v1/versions/4/promote", json={"dry_run": True}), 404)
    assert_problem(await client.post("/v1/versions/1/promote", json={"dry_run": "yes"}), 422)


async def test_what_cannot_be_promoted(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    await world.serve(2)
    assert_problem(await promote(client, 9), 404)
    assert "live already" in assert_problem(await promote(client, 2), 409)["detail"]
    assert_problem(await client.post("/v1/versions/1/promote", json={}), 422)
    assert_problem(await promote(client, 1, " "), 422)

    head = world.artefacts.path(1) / "heads" / "default.safetensors"
    whole = head.read_bytes()
    head.chmod(0o644)
    head.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "cannot serve" in assert_problem(await promote(client, 1), 409)["detail"]
    world.artefacts.remove([1])
    assert "no longer kept" in assert_problem(await promote(client, 1), 409)["detail"]
    assert world.values("number", "versions") == [1, 2]
    assert world.artefacts.kept() == [2]


class RacingLedger:
    """A learner that promotes a version between the roll-back's look and its promotion, `times` times."""

    def __init__(self, world: World, times: int) -> None:
        self._world = world
        self._left = times

    def __getattr__(self, name: str) -> object:
        return getattr(self._world.ledger, name)

    async def promote(self, version: NewVersion, change: LedgerChange) -> Version:
        if self._left:
            self._left -= 1
            number = max(self._world.artefacts.kept()) + 1  # as the learner does: never a folder that is there
            await self._world.promote(self._world.write_version(number))
        return await self._world.ledger.promote(version, change)


@pytest.mark.parametrize("races", [1, 4, 5])
async def test_a_rollback_and_the_learner_at_the_same_time(world: World, races: int) -> None:
    for number in (1, 2):
        await world.promote(world.write_version(number))

    async def roll_back() -> Version:
        ledger: Any = RacingLedger(world, races)
        ports = Ports(world.samples, world.predictions, ledger, world.labels, world.stream, world.artefacts)
        return (await promote_again(1, reason="race", promoted_by="test", ports=ports)).version

    if races == 5:
        with pytest.raises(ParentNotLive):
            await roll_back()
    else:
        version = await roll_back()
        assert version.kind is VersionKind.ROLLBACK
        assert version.number == 3 + 2 * races
        assert world.artefacts.open(version.number).manifest.kind is VersionKind.ROLLBACK
    versions = await world.ledger.page(None, 100)
    for stored in versions:
        folder = world.artefacts.open(stored.number)
        assert folder.manifest.kind is stored.kind
        assert folder.manifest.heads == stored.heads
    assert world.artefacts.kept() == sorted(stored.number for stored in versions)


async def test_a_consolidation_can_be_asked_for(world: World, client: httpx.AsyncClient) -> None:
    for content in (b"", b"{}"):
        response = await client.post("/v1/consolidations", content=content)
        assert (response.status_code, response.json()) == (202, {"state": "asked"})
    asked = [event for event in await world.ledger.events(0, 10) if event.type == CONSOLIDATION_ASKED]
    assert [event.payload for event in asked] == 2 * [{"trigger": "api"}]
    await world.stream.close()
    assert (await client.post("/v1/consolidations")).status_code == 202, "it is asked for in SQL, not by Redis"
    world.switch_sql(on=False)
    assert_problem(await client.post("/v1/consolidations"), 503)
