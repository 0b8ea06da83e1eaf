"""What `from pawl import ...` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import pawl
from pawl import Client, Correction, load
from pawl.client import NotLearned, RequestRefused, ServiceUnreachable
from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import ArtefactCorrupt, NoLiveVersion
from pawl.domain.samples import SampleState
from pawl.domain.versions import LedgerChange
from tests.app.world import World

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("program", "without"),
    [
        ("import pawl", ["httpx", "numpy", "onnxruntime", "pydantic", "sqlalchemy", "torch"]),
        ("from pawl import Client", ["numpy", "onnxruntime", "sqlalchemy", "torch"]),
        ("from pawl import load", ["fastapi", "redis", "torch", "transformers"]),
    ],
)
def test_an_import_brings_only_what_is_needed(program: str, without: list[str]) -> None:
    code = f"{program}\nimport sys\nassert not set({without}) & set(sys.modules), set({without}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_only_what_is_listed_is_there() -> None:
    assert all(getattr(pawl, name) is not None for name in pawl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        getattr(pawl, "Server")  # noqa: B009 - mypy knows that there is none
    assert (Path(pawl.__file__).parent / "py.typed").is_file()


async def test_a_home_gives_its_live_version_and_a_folder_its_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    engine = connect(world.settings.sql_url)
    try:
        await upgrade(engine)
        ledger = SqlVersionLedger(engine)
        with pytest.raises(ArtefactCorrupt, match="missing"):
            load(tmp_path)
        first = world.write_version(1)
        with pytest.raises(NoLiveVersion):
            load(tmp_path)
        await ledger.promote(first, LedgerChange())
        world.write_version(2)  # a candidate that nobody has promoted
    finally:
        await engine.dispose()
    live, second = load(tmp_path), load(world.artefacts.path(2), threads=1)
    assert (live.number, second.number) == (1, 2)
    assert live.predict(["my card"]) == world.offline(1).predict(["my card"])


def test_a_home_without_a_database_gets_none(tmp_path: Path) -> None:
    (tmp_path / "artefacts").mkdir()
    with pytest.raises(NoLiveVersion):
        load(tmp_path)
    assert not (tmp_path / "pawl.db").exists()


class Service:
    """Answers like the service: busy at first, then with what it was given."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, tries: int = 1) -> Client:
        return Client("http://pawl.example", tries=tries, transport=httpx.MockTransport(self))


def answer(**body: object) -> httpx.Response:
    return httpx.Response(200, json=body)


def status(state: str, version: int | None = None) -> httpx.Response:
    moments = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z")
    about = {"id": "fb_1", "task": "default", "label": "a", "reason": "a doubt", "more": "of a later version"}
    return answer(**about, **moments, state=state, learned_in_version=version)


PREDICTED = {
    "id": "pr_1",
    "label": "card",
    "score": 0.9,
    "scores": [{"label": "card", "score": 0.9}, {"label": "money", "score": 0.1}],
    "novelty": 0.2,
    "by": "both",
}


def test_predictions_are_typed() -> None:
    service = Service(answer(version=3, predictions=[PREDICTED]))
    with service.client() as client:
        found = client.predict(["my card"], top_k=2, min_version=3, wait_seconds=1.5)
    [prediction] = found.predictions
    assert (found.version, prediction.label, prediction.scores[1].label) == (3, "card", "money")
    assert prediction.by == "both"
    sent = json.loads(service.requests[0].content)
    assert sent == {"texts": ["my card"], "task": "default", "top_k": 2, "min_version": 3, "wait_ms": 1500}


def test_feedback_is_sent_again_under_the_same_key_until_it_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pawl.client.client.time.sleep", lambda _: None)
    busy = httpx.Response(503, json={"title": "Unavailable", "detail": "the database is away"})
    receipt = answer(items=[{"id": "fb_1", "state": "queued"}])
    service = Service(busy, httpx.ReadTimeout("late"), receipt, status("queued"), status("learned", 4))
    client = service.client(tries=3)
    receipts = client.feedback([Correction("a", text="b", weight=2.0)])
    assert receipts[0].state is SampleState.QUEUED
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert json.loads(service.requests[0].content)["items"] == [
        {"label": "a", "text": "b", "create_task": False, "weight": 2.0}
    ]
    assert client.wait_until_learned(receipts) == 4


def test_what_goes_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pawl.client.client.time.sleep", lambda _: None)
    wrong = {"title": "Unprocessable", "detail": "1 fault", "errors": [{"pointer": "#/text", "detail": "too long"}]}
    service = Service(httpx.Response(422, json=wrong), httpx.ConnectError("refused"), status("quarantined"))
    client = service.client(tries=1)
    with pytest.raises(RequestRefused, match="422 Unprocessable: 1 fault\n  #/text: too long") as refused:
        client.predict(["x"])
    assert refused.value.status == 422
    with pytest.raises(ServiceUnreachable, match=r"nothing answers at http://pawl\.example"):
        client.versions()
    service.answers.append(answer(items=[{"id": "fb_1", "state": "queued"}]))
    service.answers.reverse()
    with pytest.raises(NotLearned, match="fb_1 is quarantined: a doubt"):
        client.wait_until_learned(client.feedback([Correction("a", text="b")]))
    with pytest.raises(ServiceUnreachable, match="is not a URL"):
        Client("http://[::1")
