"""`pawl up` from outside: what a user types, kills and reads."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.commands.service.up import FLUSH_SECONDS, STOP_REDIS_SECONDS
from pawl.settings import Settings
from tests.app.commands.processes import Up, environment, eventually, pawl, pawl_json, processes_of
from tests.polling import has_ended


@pytest.fixture(scope="module")
def up(short_folder: Path, tiny_encoder: Path) -> Iterator[Up]:
    """One `pawl up` with its demo model for all tests that do not end it."""
    with Up(environment(short_folder / "home", tiny_encoder)) as running:
        assert running.ready() == f"ready {running.url} version 1"
        yield running


def test_a_demo_model_answers_in_four_tasks(up: Up) -> None:
    model = pawl_json(up.env, "status")["model"]
    assert {task: len(labels) for task, labels in model["tasks"].items()} == {
        "default": 10,
        "topic": 4,
        "sentiment": 3,
        "support_zh": 6,
    }
    assert model["queue"]["length"] == 0
    assert model["learner"]["alive"]
    for task in model["tasks"]:
        answer = pawl_json(up.env, "predict", "where is my parcel?", "Oil plunges 7%", "--task", task, "--top-k", "2")
        assert answer["version"] == model["version"]
        for prediction in answer["predictions"]:
            assert prediction["label"] in model["tasks"][task]
            assert len(prediction["scores"]) == 2


def test_a_correction_by_text_and_one_by_id_are_served(up: Up) -> None:
    text = "do you wrap gifts and add a card"
    before = pawl_json(up.env, "predict", text)
    receipt = pawl_json(up.env, "feedback", "--text", text, "--label", "gift_wrapping", "--wait")
    assert receipt["state"] == "learned"
    assert receipt["learned_in_version"] > before["version"]
    after = pawl_json(up.env, "predict", text)
    assert after["version"] >= receipt["learned_in_version"]
    assert after["predictions"][0]["label"] == "gift_wrapping"

    wrong = pawl_json(up.env, "predict", "please ring the bell twice")["predictions"][0]
    told = pawl(up.env, "feedback", "--id", wrong["id"], "--label", "delivery_note", "--wait")
    assert told.returncode == 0
    assert " learned in version " in told.stdout
    assert pawl_json(up.env, "predict", "please ring the bell twice")["predictions"][0]["label"] == "delivery_note"


def test_the_lineage_and_a_rollback(up: Up) -> None:
    listed = pawl(up.env, "versions").stdout
    assert listed.splitlines()[0].split()[:3] == ["version", "state", "kind"]
    assert "bootstrap" in listed
    report = pawl(up.env, "versions", "1").stdout
    assert "version 1: " in report
    for words in ("gate: accepted", "task sentiment", "order_status", "recall now"):
        assert words in report
    newest = pawl_json(up.env, "versions")["items"][0]["number"]
    promoted = pawl_json(up.env, "promote", "1", "--reason", "a test of rolling back")
    assert promoted["number"] == newest + 1
    assert promoted["kind"] == "rollback"
    assert promoted["reason"] == "a test of rolling back"
    unknown = pawl(up.env, "versions", "999")
    assert unknown.returncode == 1
    assert "There is no version 999" in unknown.stderr


def test_an_import_beside_a_running_service_is_learned_by_it_and_served(up: Up, tmp_path: Path) -> None:
    file = tmp_path / "colours.csv"
    file.write_text("sentence,colour\n" + "".join(f"{c} thing {n},{c}\n" for n in range(8) for c in ("red", "blue")))
    arguments = ("import", str(file), "--task", "colour", "--create-task")
    done = pawl(up.env, *arguments)
    assert done.returncode == 0, done.stderr
    first, served, labels = done.stdout.splitlines()
    assert first == "colours.csv: 16 rows, 16 new, 0 already known"
    assert labels == "task colour: 16 texts, 2 labels (blue 8, red 8)"
    answer = httpx.post(f"{up.url}/v1/predict", json={"text": "red thing 3", "task": "colour"}, timeout=30.0).json()
    assert served == f"version {answer['version']} is served"
    assert answer["predictions"][0]["label"] == "red"
    again = pawl(up.env, *arguments)
    assert again.stdout.splitlines() == [
        "colours.csv: 16 rows, 0 new, 16 already known",
        "nothing new to learn",
        served,
        labels,
    ]


def test_doctor_finds_nothing_wrong(up: Up) -> None:
    found = {finding["part"]: finding for finding in pawl_json(up.env, "doctor")}
    parts = {"python", "home", "settings", "encoder", "backend", "texts", "database", "artefacts", "supervisor"}
    assert set(found) == parts | {"learner", "dead letters", "redis", "service"}
    assert {part for part, finding in found.items() if finding["outcome"] != "ok"} <= {"home"}, "home: a full disk"


def test_the_learner_stands_back_where_answers_want_a_core(up: Up) -> None:
    eventually(lambda: up.child("worker").nice() > up.child("app").nice(), "the learner is nicer than the app")
    # Where the kernel groups tasks by session (autogroup) a priority holds only among those of one session.
    assert os.getsid(up.child("worker").pid) == os.getsid(up.child("app").pid)
    assert os.getpgid(up.child("worker").pid) == up.child("worker").pid, "a Ctrl-C is for `pawl up` alone"


def test_a_second_one_on_the_same_home_is_refused(up: Up) -> None:
    second = pawl(up.env, "up", "--port", "0")
    assert second.returncode == 1
    assert f"`pawl up` runs on {up.home} already (process {up.process.pid})" in second.stderr
    assert httpx.get(f"{up.url}/readyz").is_success


def test_a_port_in_use_is_named_before_anything_starts(short_folder: Path, tiny_encoder: Path) -> None:
    home = short_folder / "no-port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = pawl(environment(home, tiny_encoder), "up", "--port", str(port))
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in refused.stderr
    assert not (home / "pawl.db").exists()


@pytest.mark.parametrize("name", ["app", "worker", "redis"])
def test_a_killed_child_comes_back_and_corrections_are_served_again(up: Up, name: str) -> None:
    killed = up.child(name)
    killed.kill()
    eventually(lambda: has_ended(killed), f"{name} is dead")
    eventually(lambda: up.child(name).pid != killed.pid, f"a new {name}")

    def answers() -> bool:
        try:
            return httpx.get(f"{up.url}/readyz").is_success
        except httpx.HTTPError:
            return False

    eventually(answers, "ready again")
    text = f"after the {name} was killed"
    sent = httpx.post(f"{up.url}/v1/feedback", json={"text": text, "label": f"killed_{name}"}, timeout=30.0)
    assert sent.status_code == 202

    def served() -> bool:
        answer = httpx.post(f"{up.url}/v1/predict", json={"text": text}, timeout=30.0)
        return bool(answer.json()["predictions"][0]["label"] == f"killed_{name}")

    eventually(served, "the correction is served")


def test_killing_the_supervisor_leaves_no_orphan_and_the_next_start_goes_on(up: Up) -> None:
    """Last of those that share the fixture: it ends it, and starts another one on what the crash left."""
    before = pawl_json(up.env, "status")["model"]["version"]
    assert len(processes_of(up.home)) >= 4
    up.end(signal.SIGKILL)
    eventually(lambda: not processes_of(up.home), "all processes are gone", 10.0)
    assert (up.home / "run.json").exists(), "a crash cannot clean up"

    nobody = pawl(up.env, "predict", "hello")
    assert nobody.returncode == 1
    assert "nothing answers at" in nobody.stderr
    assert "pawl up" in nobody.stderr

    with Up(up.env) as again:
        line = again.ready()
        assert int(line.rsplit(" ", 1)[1]) >= before
        assert line.split()[1] == again.url
        assert again.end(signal.SIGINT) == 0
        assert not processes_of(up.home)
        assert not (up.home / "run.json").exists()


def test_an_empty_home_without_the_demo(short_folder: Path, tiny_encoder: Path) -> None:
    with Up(environment(short_folder / "empty", tiny_encoder), "--no-demo") as running:
        assert running.ready() == f"ready {running.url} no version yet"
        assert httpx.get(f"{running.url}/livez").status_code == 200
        assert httpx.get(f"{running.url}/readyz").json()["version"] is None
        refused = pawl(running.env, "predict", "hello")
        assert refused.returncode == 1
        assert "pawl import" in refused.stderr
        assert pawl_json(running.env, "status")["ready"]
        assert "none yet" in pawl(running.env, "status").stdout
        # Labels alone make a first version, too.
        items = [{"text": f"{label} card {n}", "label": label} for n in range(5) for label in ("credit", "debit")]
        assert httpx.post(f"{running.url}/v1/feedback", json={"items": items}, timeout=30.0).status_code == 202
        eventually(lambda: httpx.get(f"{running.url}/readyz").json().get("version"), "a first version")
        assert sorted(pawl_json(running.env, "status")["model"]["tasks"]["default"]) == ["credit", "debit"]
        assert running.end(signal.SIGTERM) == 0


def test_postgresql_an_outside_redis_and_two_processes(
    short_folder: Path, tiny_encoder: Path, postgres_url: str, redis_url: str
) -> None:
    home = short_folder / "outside"
    env = environment(home, tiny_encoder, PAWL_DATABASE_URL=postgres_url, PAWL_REDIS_URL=redis_url)
    with Up(env, "--workers", "2") as running:
        assert running.ready() == f"ready {running.url} version 1"
        assert not (home / "redis").exists()
        eventually(lambda: 'process="2"' in httpx.get(f"{running.url}/metrics").text, "both processes serve")
        assert not (home / "pawl.db").exists()
        receipt = pawl_json(env, "feedback", "--text", "do you wrap gifts", "--label", "gift_wrapping", "--wait")
        assert receipt["state"] == "learned"
        found = {finding["part"]: finding for finding in pawl_json(env, "doctor")}
        assert found["database"]["detail"].startswith("PostgreSQL")
        assert found["redis"]["outcome"] == "ok"
        assert running.end(signal.SIGTERM) == 0


def test_ctrl_c_during_the_first_training_leaves_nothing(short_folder: Path, tiny_encoder: Path) -> None:
    home = short_folder / "interrupted"
    with Up(environment(home, tiny_encoder)) as running:
        eventually((home / "run.json").exists, "the children were started")
        assert running.end(signal.SIGINT) == 0
        eventually(lambda: not processes_of(home), "all processes are gone", 1.0)
        assert not (home / "run.json").exists()


def test_a_stop_is_bounded() -> None:
    """Ten seconds were promised. That the limits are kept, tests/app/local/test_supervisor.py shows."""
    assert Settings().drain_seconds + FLUSH_SECONDS + STOP_REDIS_SECONDS < 9.0


def test_logs_are_json_in_the_home(up: Up) -> None:
    lines = (up.home / "logs" / "worker.log").read_text().splitlines()
    assert "leading" in {json.loads(line)["event"] for line in lines if line.startswith("{")}
    assert time.time() - (up.home / "logs" / "redis.log").stat().st_mtime < 3600
