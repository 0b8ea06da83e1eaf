"""The whole way of a correction on real processes, once embedded and once on PostgreSQL and an outside Redis."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
import pytest

from tests.app.commands.processes import Up, environment, eventually, pawl, processes_of
from tests.intents import labelled
from tests.servers import RedisServer
from tests.tiny_encoder import write_tiny_encoder

PROBES = [text for text, _ in labelled(10, seed=99)]
TOLERANCE = 1e-5
"""A sample that leaves takes its influence along; what is left is rounding."""


class Client:
    """The service as its user sees it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.Client(base_url=url, timeout=60.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        response = self._http.get(path)
        response.raise_for_status()
        return response.json()

    def post(self, path: str, body: dict[str, Any], status: int = 200) -> Any:
        response = self._http.post(path, json=body)
        assert response.status_code == status, response.text
        return response.json()

    def delete(self, path: str) -> Any:
        return self._http.delete(path).raise_for_status().json()

    def predict(self, texts: list[str], **more: Any) -> Any:
        return self.post("/v1/predict", {"texts": texts, "top_k": 100, **more})

    def scores(self, texts: list[str]) -> list[dict[str, float]]:
        answer = self.predict(texts)
        return [{one["label"]: one["score"] for one in each["scores"]} for each in answer["predictions"]]

    def correct(self, **item: Any) -> dict[str, Any]:
        """Feedback, followed until it is learned and served."""
        receipt = self.post("/v1/feedback", item, 202)["items"][0]
        settled = self.settled(receipt["id"])
        assert settled["state"] == "learned", settled
        served = self.predict([PROBES[0]], min_version=settled["learned_in_version"], wait_ms=30_000)
        assert served["version"] >= settled["learned_in_version"]
        return settled

    def settled(self, sample_id: str, state: str = "queued") -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.get(f"/v1/feedback/{sample_id}")
            return found if found["state"] != state else None

        return eventually(look, f"{sample_id} is not {state} any more")

    def live(self) -> int:
        return int(self.get("/v1/model")["version"])

    def follow_events(self) -> list[str]:
        """Types of events from now on, as they come; the list grows behind the caller's back."""
        seen: list[str] = []

        def read() -> None:
            try:
                with httpx.stream("GET", f"{self._url}/v1/events", timeout=600.0) as response:
                    lines = response.iter_lines()
                    seen.extend(line.removeprefix("event:").strip() for line in lines if line.startswith("event:"))
            except httpx.HTTPError:
                return

        threading.Thread(target=read, daemon=True).start()
        return seen


@pytest.fixture(params=["embedded", "servers"])
def home(request: pytest.FixtureRequest, short_folder: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an empty installation of either kind."""
    encoder = write_tiny_encoder(tmp_path / "encoder")
    servers: dict[str, str] = {}
    if request.param == "servers":
        servers["PAWL_DATABASE_URL"] = request.getfixturevalue("postgres_url")
        servers["PAWL_REDIS_URL"] = request.getfixturevalue("redis_url")
    more = {"PAWL_EPOCHS": "1", "PAWL_SNAPSHOT_EVERY": "5", "OMP_NUM_THREADS": "1"}
    yield environment(short_folder / f"e2e-{request.param}", encoder, **servers, **more)
    if request.param == "embedded":
        assert processes_of(short_folder / "e2e-embedded") == []


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def check_servers(env: dict[str, str], redis: RedisServer | None) -> None:
    """The samples are where they should be, and nowhere else."""
    home = Path(env["PAWL_HOME"])
    if redis is None:
        assert (home / "pawl.db").stat().st_size > 0
        assert list((home / "redis").rglob("*aof*"))
        return
    assert not (home / "pawl.db").exists()
    assert not (home / "redis").exists()
    assert redis.answers()
    url = env["PAWL_DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), current_setting('server_version') FROM samples").fetchone()
    assert row is not None
    assert row[0] > 0
    assert row[1].startswith("16")


def test_a_correction_travels_the_whole_way(
    home: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done = pawl(home, "import", str(write_csv(tmp_path / "train.csv", labelled(150))))
    assert done.returncode == 0, done.stdout + done.stderr
    with Up(home, "--no-demo") as up:
        assert up.ready().endswith("version 1")
        with Client(up.url) as client:
            outside = request.getfixturevalue("redis_server") if "PAWL_REDIS_URL" in home else None
            check_servers(home, outside)
            events = client.follow_events()
            by_id = correct_by_id_and_by_text(client)
            add_a_label_and_take_it_back(client)
            roll_back_and_go_on(client)
            consolidate(client, events)
            for kind in ("feedback_learned", "version_promoted", "consolidation_started"):
                eventually(partial(events.__contains__, kind), f"event {kind}")
            version, before = client.live(), client.scores(PROBES)
    with Up(home, "--no-demo") as up:
        up.ready()
        with Client(up.url) as client:
            assert client.live() == version
            # Two threads share a request as they happen to be free, and float32 rounds by who shares a batch.
            for old, new in zip(before, client.scores(PROBES), strict=True):
                assert new == pytest.approx(old, abs=TOLERANCE)
            assert client.get(f"/v1/feedback/{by_id}")["state"] == "learned"
            client.correct(text="one more text after the restart", label="card")
            assert client.live() > version


def correct_by_id_and_by_text(client: Client) -> str:
    answer = client.post("/v1/predict", {"text": "please send the virtual visa hotel"})
    settled = client.correct(prediction_id=answer["predictions"][0]["id"], label="card")
    assert settled["label"] == "card"
    client.correct(text="a text that nobody asked about", label="flight")
    assert client.live() >= 3
    version = client.get(f"/v1/versions/{settled['learned_in_version']}")
    assert version["gate"]["accepted"]
    assert version["parent"] is not None
    return str(settled["id"])


def add_a_label_and_take_it_back(client: Client) -> None:
    before = client.scores(PROBES)
    settled = client.correct(text="the moon is made of cheese", label="astronomy")
    assert "astronomy" in client.get("/v1/model")["tasks"]["default"]
    client.delete(f"/v1/feedback/{settled['id']}")
    gone = client.settled(settled["id"], "learned")
    assert gone["state"] == "retracted"
    taken_out = client.live()
    eventually(lambda: client.get("/v1/versions?limit=1")["items"][0]["number"] == client.live(), "newest is served")
    assert client.live() >= taken_out
    after = client.scores(PROBES)
    for old, new in zip(before, after, strict=True):
        assert new.get("astronomy", 0.0) < TOLERANCE
        assert all(abs(new[label] - score) < TOLERANCE for label, score in old.items())


def roll_back_and_go_on(client: Client) -> None:
    target, before = client.live(), client.scores(PROBES)
    learned = client.correct(text="profit of a stolen card", label="password")
    newest = client.live()
    version = client.post(f"/v1/versions/{target}/promote", {"reason": "an exercise"})["number"]
    assert version > newest
    eventually(lambda: client.live() >= version, f"version {version} is served")
    for old, new in zip(before, client.scores(PROBES), strict=True):
        assert all(abs(new[label] - score) < TOLERANCE for label, score in old.items())
    row = client.get(f"/v1/versions/{version}")
    assert row["kind"] == "rollback"
    assert row["gate"]["forced"] == "an exercise"
    assert client.get(f"/v1/feedback/{learned['id']}")["state"] == "quarantined"
    following = client.correct(text="a word after the exercise", label="transfer")
    assert following["learned_in_version"] > version


def consolidate(client: Client, events: list[str]) -> None:
    """A random encoder may well find nothing better, or be refused: each is an end that must be told."""
    started_at = client.live()
    client.post("/v1/consolidations", {}, 202)
    unchanged = partial(events.__contains__, "consolidation_unchanged")

    def made() -> dict[str, Any] | None:
        for one in client.get("/v1/versions?limit=5")["items"]:
            if one["kind"] == "consolidation" and one["number"] > started_at:
                return dict(client.get(f"/v1/versions/{one['number']}"))
        return None

    eventually(lambda: made() or unchanged(), "the consolidation ended", seconds=180.0)
    row = made()
    assert "consolidation_failed" not in events
    if row is None:
        assert client.live() == started_at
        return
    assert row["state"] in ("live", "refused")
    assert row["gate"]["tasks"]["default"]["overall"]["items"] > 0
    if row["state"] == "live":
        eventually(lambda: client.live() >= row["number"], "the consolidated version is served")
        assert row["encoder_digest"] != client.get(f"/v1/versions/{started_at}")["encoder_digest"]
