from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from app.schemas.feedback import FeedbackResponse
from app.schemas.labels import LabelChangeOut, LabelPage
from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import LedgerChange
from tests.app.world import LABELS, World, assert_problem
from tests.polling import eventually

ODD_NAMES = ["a/b", "//", "a b", "Überweisung", "50 % off?", "#1", "名前", "changes/x", "a+b&c=d"]


async def learned(world: World, labels: tuple[str, ...] = LABELS) -> list[str]:
    """Version 1 serves, and has two learned samples of each label."""
    items = [NewSample(f"{label} {n}", label) for label in labels for n in range(2)]
    ids = [one.id for one in await world.samples.accept(items)]
    await world.serve(1, LedgerChange(learned=tuple(ids)), default=labels)
    return ids


async def carry_out(world: World, change: dict[str, Any], number: int) -> None:
    """As the learner does."""
    stored = await world.labels.get(change["id"])
    gone = await world.samples.learned_with_label(stored.task, stored.label, 100) if stored.target is None else []
    labels = {one.name for one in await world.labels.summaries("default") if one.samples["learned"]} - {stored.label}
    promotion = LedgerChange(unlearned={one.id: "retired" for one in gone}, label=stored)
    await world.serve(number, promotion, default=sorted(labels | ({stored.target} if stored.target else set())))


def path(label: str) -> str:
    return "/v1/labels/" + quote(label, safe="")


async def listed(client: httpx.AsyncClient, **params: str) -> dict[str, dict[str, Any]]:
    page = (await client.get("/v1/labels", params=params)).json()
    LabelPage.model_validate(page, extra="forbid")
    return {one["name"]: one for one in page["items"]}


async def test_labels_are_listed_with_what_they_hold(world: World, client: httpx.AsyncClient) -> None:
    await learned(world)
    await client.post("/v1/feedback", json={"text": "x", "label": "card"})
    found = await listed(client)
    assert list(found) == sorted(LABELS)
    assert found["card"] == {
        "name": "card",
        "state": "active",
        "now": None,
        "since_version": 1,
        "reason": None,
        "samples": {"queued": 1, "learned": 2, "quarantined": 0, "golden": 0},
        "pending": None,
    }
    assert await listed(client, task="mood") == {}
    assert_problem(await client.get("/v1/labels", params={"task": "../x"}), 422)


async def test_a_label_is_renamed(world: World, client: httpx.AsyncClient) -> None:
    await learned(world)
    response = await client.patch(path("card"), json={"name": "bank card", "reason": "clearer"})
    assert response.status_code == 202, response.text
    change = response.json()
    LabelChangeOut.model_validate(change, extra="forbid")
    assert (change["kind"], change["label"], change["target"], change["state"]) == (
        "rename",
        "card",
        "bank card",
        "pending",
    )
    assert response.headers["location"] == f"/v1/labels/changes/{change['id']}"
    assert (await client.get(response.headers["location"])).json() == change
    assert (await listed(client))["card"]["pending"] == change["id"]
    waiting = (await client.post("/v1/feedback", json={"text": "waits", "label": "card"})).json()["items"][0]
    assert set(waiting) == {"id", "state"}
    await carry_out(world, change, 2)
    settled = (await client.get(response.headers["location"])).json()
    assert (settled["state"], settled["version"]) == ("applied", 2)
    assert (await client.get(f"/v1/feedback/{waiting['id']}")).json()["label"] == "bank card"
    answer = (await client.post("/v1/feedback", json={"text": "late", "label": "card"})).json()
    FeedbackResponse.model_validate(answer, extra="forbid")
    assert answer["items"][0]["label"] == "bank card"
    assert (await listed(client))["card"]["now"] == "bank card"


async def test_a_retired_label_is_refused_and_comes_back(world: World, client: httpx.AsyncClient) -> None:
    await learned(world)
    response = await client.delete(path("other"), params={"reason": "too vague"})
    assert response.status_code == 202, response.text
    assert (response.json()["kind"], response.json()["reason"]) == ("retire", "too vague")
    await carry_out(world, response.json(), 2)
    items = [{"text": "a", "label": "card"}, {"text": "b", "label": "other"}, {"text": "c", "label": "other"}]
    problem = assert_problem(await client.post("/v1/feedback", json={"items": items}), 422)
    assert [one["pointer"] for one in problem["errors"]] == ["#/items/1/label", "#/items/2/label"]
    assert "was retired" in problem["errors"][0]["detail"]
    one = assert_problem(await client.post("/v1/feedback", json={"text": "b", "label": "other"}), 422)
    assert one["errors"][0]["pointer"] == "#/label"
    assert (await world.samples.backlog()).length == 0
    assert_problem(await client.delete(path("other")), 404)
    back = await client.post("/v1/labels", json={"name": "other"})
    assert (back.status_code, back.json()["state"]) == (201, "applied")
    assert (await client.post("/v1/feedback", json={"text": "b", "label": "other"})).status_code == 202


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_names_of_any_kind(world: World, client: httpx.AsyncClient, name: str) -> None:
    await learned(world, (name, "card", "money"))
    response = await client.patch(path(name), json={"name": f"{name} 2"})
    assert (response.status_code, response.json()["label"]) == (202, name)
    await carry_out(world, response.json(), 2)
    response = await client.delete(path(f"{name} 2"))
    assert (response.status_code, response.json()["label"]) == (202, f"{name} 2")


@pytest.mark.parametrize(
    ("label", "body", "status", "says"),
    [
        ("nothing", {"name": "x"}, 404, "no label 'nothing'"),
        ("card", {"name": "money"}, 409, "merge instead"),
        ("card", {"name": "card"}, 422, "its own target"),
        ("card", {"merge_into": "nothing"}, 422, "no label 'nothing'"),
        ("card", {}, 422, "either `name` or `merge_into`"),
        ("card", {"name": "x", "merge_into": "money"}, 422, "either"),
        ("card", {"name": " "}, 422, "name"),
        ("card", {"name": "\u200b\n"}, 422, "nothing is left of it"),
        ("card", {"name": 7}, 422, "string"),
        ("card", {"name": "x", "more": 1}, 422, "more"),
        ("a\nb", {"name": "x"}, 404, "nothing at"),
    ],
)
async def test_what_cannot_be_changed(
    world: World, client: httpx.AsyncClient, label: str, body: dict[str, Any], status: int, says: str
) -> None:
    await learned(world)
    problem = assert_problem(await client.patch(path(label), json=body), status)
    assert says in problem["detail"]
    assert await world.labels.pending() == []


async def test_conflicts(world: World, client: httpx.AsyncClient) -> None:
    await learned(world)
    first = (await client.delete(path("other"))).json()
    assert first["id"] in assert_problem(await client.patch(path("other"), json={"name": "x"}), 409)["detail"]
    assert "fewer than 2" in assert_problem(await client.delete(path("card")), 409)["detail"]
    assert "exists" in assert_problem(await client.post("/v1/labels", json={"name": "card"}), 409)["detail"]
    assert_problem(await client.get("/v1/labels/changes/lc_none"), 404)
    assert_problem(await client.get("/v1/labels/changes/%00"), 404)
    assert_problem(await client.delete("/v1/labels/"), 422)
    assert_problem(await client.delete(path("l" * 201)), 422)
    assert_problem(await client.get(path("card")), 405)
    for bad in (b"", b"[]", b'{"name": "\\ud800"}'):
        headers = {"content-type": "application/json"}
        response = await client.post("/v1/labels", content=bad, headers=headers)
        assert response.status_code in {400, 422}


async def test_without_sql(world: World, client: httpx.AsyncClient) -> None:
    await learned(world)
    world.switch_sql(on=False)
    for response in (
        await client.get("/v1/labels"),
        await client.post("/v1/labels", json={"name": "x"}),
        await client.patch(path("card"), json={"name": "x"}),
        await client.delete(path("card")),
    ):
        assert_problem(response, 503)


async def test_where_labels_are_closed(tmp_path: Path) -> None:
    world = World(tmp_path, closed_labels=True)
    async with world.client() as client:
        await learned(world)
        body = {"text": "x", "label": "fresh"}
        assert_problem(await client.post("/v1/feedback", json=body), 422)
        await client.post("/v1/labels", json={"name": "fresh"})
        assert (await client.post("/v1/feedback", json=body)).status_code == 202
        await carry_out(world, (await client.patch(path("card"), json={"name": "bank card"})).json(), 2)
        receipt = (await client.post("/v1/feedback", json={"text": "y", "label": "card"})).json()["items"][0]
        assert receipt["label"] == "bank card"
        await carry_out(world, (await client.delete(path("other"))).json(), 3)
        problem = assert_problem(await client.post("/v1/feedback", json={"text": "z", "label": "other"}), 422)
        assert "was retired" in problem["detail"]
        assert_problem(await client.post("/v1/feedback", json={"text": "x", "label": "b", "task": "mood"}), 422)


async def test_a_decision_survives_a_roll_back(world: World, client: httpx.AsyncClient) -> None:
    """The old weights, under the names of now; two columns that became one are added, the retired one is not there."""
    labels = ("card", "money", "other", "bank", "cash")
    await learned(world, labels)
    for number, response in enumerate(
        [
            await client.patch(path("card"), json={"name": "cards"}),
            await client.patch(path("cash"), json={"merge_into": "money"}),
            await client.delete(path("other")),
        ],
        start=2,
    ):
        await carry_out(world, response.json(), number)
    response = await client.post("/v1/versions/1/promote", json={"reason": "it was better"})
    assert response.status_code == 200, response.text
    made = response.json()
    assert made["heads"]["default"]["labels"] == ["cards", "money", "bank"]
    assert len(made["gate"]["pending_label_changes"]) == 3
    assert made["gate"]["pending_unlearn_count"] == 2
    await eventually(lambda: world.service.engine.number == 5)
    answer = (await client.post("/v1/predict", json={"text": "x", "top_k": 9})).json()["predictions"][0]
    assert {one["label"] for one in answer["scores"]} == {"cards", "money", "bank"}
    old, new = world.offline(1).heads["default"].semantic, world.offline(5).heads["default"].semantic
    np.testing.assert_array_equal(new.weights[:, [0, 2]], old.weights[:, [0, 3]])
    np.testing.assert_allclose(new.weights[:, 1], old.weights[:, 1] + old.weights[:, 4])
    states = {one.label: one.state for one in await world.samples.get_many(world.values("id", "samples"))}
    assert states["other"] is SampleState.RETRACTED
    again = (await client.post("/v1/versions/5/promote", json={"reason": "no"})).status_code
    assert again == 409
    later = await client.post("/v1/versions/4/promote", json={"reason": "forth"})
    assert "pending_label_changes" not in later.json()["gate"]
