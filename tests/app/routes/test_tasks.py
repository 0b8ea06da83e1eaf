"""Tasks over HTTP: made when that is said, listed, dropped; and labels that no path can name."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.schemas.feedback import FeedbackResponse
from app.schemas.labels import LabelChangeOut, LabelPage
from app.schemas.tasks import TaskList
from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import LedgerChange
from pawl.settings import Settings
from tests.app.http.test_server import listening
from tests.app.world import World, assert_problem

UNNAMEABLE = [".", "..", "a/../b", "a/b", "what?", "100 %", "%2e%2e", "#1", "a&b=c+d", "-x"]


async def listed(client: httpx.AsyncClient, **params: str) -> dict[str, dict[str, Any]]:
    page = (await client.get("/v1/tasks", params=params)).json()
    TaskList.model_validate(page, extra="forbid")
    return {one["name"]: one for one in page["items"]}


async def test_a_mistyped_task_is_a_422_that_names_the_nearest(world: World, client: httpx.AsyncClient) -> None:
    body = assert_problem(await client.post("/v1/feedback", json={"text": "a", "label": "b", "task": "defualt"}), 422)
    assert body["errors"][0]["pointer"] == "#/task"
    assert "there are default" in body["detail"]
    assert "did you mean 'default'?" in body["detail"]
    assert "create_task" in body["detail"]
    assert not world.values("id", "samples")
    assert 'pawl_feedback_faults_total{field="task"} 1.0' in (await client.get("/metrics")).text
    item = {"text": "a", "label": "b", "task": "mood"}
    assert_problem(await client.post("/v1/labels", json={"name": "b", "task": "mood"}), 422)
    made = await client.post("/v1/feedback", json={"items": [item | {"create_task": True}, item | {"text": "c"}]})
    assert made.status_code == 202
    assert list(await listed(client)) == ["default", "mood"]


async def test_a_task_with_one_label_is_not_answered_yet(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1, default=("card", "money"), mood=("good",))
    detail = assert_problem(await client.post("/v1/predict", json={"text": "a", "task": "mood"}), 409)["detail"]
    assert "'mood' has one label so far (good)" in detail
    assert (await client.post("/v1/predict", json={"text": "a"})).status_code == 200


async def test_a_task_is_dropped(world: World, client: httpx.AsyncClient) -> None:
    items = [NewSample(f"{label} {n}", label, "mood", create_task=True) for label in "ab" for n in range(2)]
    ids = tuple(one.id for one in await world.samples.accept(items))
    await world.serve(1, LedgerChange(learned=ids), default=("card", "money"), mood=("a", "b"))
    assert (await listed(client))["mood"] == {
        "name": "mood",
        "labels": 2,
        "samples": {"queued": 0, "learned": 4, "quarantined": 0, "golden": 0},
        "served": True,
        "pending": None,
    }
    assert_problem(await client.delete("/v1/tasks/none"), 404)
    assert_problem(await client.delete("/v1/tasks/No%20Name"), 422)
    assert_problem(await client.delete("/v1/tasks/mood", params={"source": "nobody"}), 404)
    asked = await client.delete("/v1/tasks/mood", params={"reason": "not needed"})
    change = asked.json()
    LabelChangeOut.model_validate(change, extra="forbid")
    assert (asked.status_code, change["kind"], change["state"]) == (202, "drop", "pending")
    assert asked.headers["location"] == f"/v1/labels/changes/{change['id']}"
    assert (await listed(client))["mood"]["pending"] == change["id"]
    assert_problem(await client.delete("/v1/tasks/mood"), 409)
    feedback = {"text": "a 0", "label": "b", "task": "mood"}
    assert "being dropped" in assert_problem(await client.post("/v1/feedback", json=feedback), 422)["detail"]
    stored = await world.labels.get(change["id"])
    leaving = LedgerChange(unlearned=dict.fromkeys(ids, "dropped"), label=stored)
    await world.serve(2, leaving, default=("card", "money"))
    assert (await client.get(asked.headers["location"])).json()["version"] == 2
    assert (
        "'mood'" in assert_problem(await client.post("/v1/predict", json={"text": "a", "task": "mood"}), 422)["detail"]
    )
    assert_problem(await client.post("/v1/feedback", json=feedback), 422)
    assert list(await listed(client)) == ["default"]
    assert set(world.values("state", "samples")) == {SampleState.RETRACTED.value}
    types = world.values("type", "events")
    assert types.count("label_change_requested") == types.count("label_changed") == 1


@pytest.mark.parametrize("client_program", ["httpx", "curl"])
async def test_every_label_can_be_changed_whatever_it_is_called(tmp_path: Path, client_program: str) -> None:
    """Through a real server: clients and servers take `.` and `..` in a path for parts of it."""
    if client_program == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    settings = Settings(home=tmp_path, server_seconds=30.0)  # a busy machine is no fault
    async with listening(settings, create_app(settings)) as (client, _):
        items = [{"text": f"text {n} of {n}", "label": label} for n, label in enumerate(UNNAMEABLE)]
        assert (await client.post("/v1/feedback", json={"items": items})).status_code == 202
        for n, label in enumerate(UNNAMEABLE):
            params = {"label": label, "task": "default"}
            if client_program == "httpx":
                answer = await client.patch("/v1/labels", params=params, json={"name": f"plain {n}"})
                assert answer.status_code == 202, answer.text
                change = answer.json()
            else:
                change = await curl("PATCH", str(client.base_url), params, {"name": f"plain {n}"})
            assert (change["label"], change["target"], change["state"]) == (label, f"plain {n}", "pending")
        page = (await client.get("/v1/labels")).json()
        assert {one["name"] for one in page["items"] if one["pending"]} == set(UNNAMEABLE)


async def curl(method: str, url: str, params: dict[str, str], body: dict[str, str]) -> dict[str, Any]:
    target = httpx.URL(f"{url}/v1/labels", params=params)
    command = ["curl", "-sS", "-X", method, "-H", "content-type: application/json", "-d", json.dumps(body), str(target)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(out)
    return answer


async def test_like_labels_are_told_and_listed_with_the_command(world: World, client: httpx.AsyncClient) -> None:
    for n, label in enumerate(["refund", "refund", "Refund ", "re fund", "other"]):
        answer = (await client.post("/v1/feedback", json={"text": f"text {n}", "label": label})).json()
        FeedbackResponse.model_validate(answer, extra="forbid")
        assert ("warnings" in answer["items"][0]) == (n in {2, 3})
    assert "pawl_feedback_warnings_total 3.0" in (await client.get("/metrics")).text
    page = (await client.get("/v1/labels")).json()
    LabelPage.model_validate(page, extra="forbid")
    assert page["probably_the_same"] == [
        {"label": "Refund", "into": "refund", "command": "pawl labels merge Refund refund"},
        {"label": "re fund", "into": "refund", "command": "pawl labels merge 're fund' refund"},
    ]


async def test_a_new_name_that_is_probably_another_label_is_told_so(world: World, client: httpx.AsyncClient) -> None:
    items = [{"text": label, "label": label} for label in ("refund", "card", "loan")]
    await client.post("/v1/feedback", json={"items": items})
    added = await client.post("/v1/labels", json={"name": "Refund"})
    assert (added.status_code, len(added.json()["warnings"])) == (201, 1)
    assert "pawl labels merge Refund refund" in added.json()["warnings"][0]
    renamed = await client.patch("/v1/labels", params={"label": "card"}, json={"name": "LOAN"})
    LabelChangeOut.model_validate(renamed.json(), extra="forbid")
    assert "probably the same as 'loan'" in renamed.json()["warnings"][0]
    own = await client.patch("/v1/labels", params={"label": "loan"}, json={"name": "Loan "})
    assert "warnings" not in own.json()


async def test_names_are_looked_up_as_they_are_kept(world: World, client: httpx.AsyncClient) -> None:
    [receipt] = (await client.post("/v1/feedback", json={"text": "x", "label": "caf\u00e9"})).json()["items"]
    change = await client.patch("/v1/labels", params={"label": " cafe\u0301\u200b"}, json={"name": "bar"})
    assert (change.status_code, change.json()["label"]) == (202, "caf\u00e9")
    await world.samples.settle(SampleState.QUARANTINED, {receipt["id"]: "x"})
    found = (await client.get("/v1/quarantine", params={"label": "cafe\u0301 "})).json()["items"]
    assert [one["id"] for one in found] == [receipt["id"]]


async def test_a_prediction_reads_a_text_as_it_would_be_kept(world: World, client: httpx.AsyncClient) -> None:
    await world.serve(1)
    answers = [
        (await client.post("/v1/predict", json={"text": text})).json()["predictions"][0]
        for text in ("caf\u00e9 card", "cafe\u0301 card")
    ]
    assert answers[0]["scores"] == answers[1]["scores"]
    assert answers[0]["novelty"] == answers[1]["novelty"]
