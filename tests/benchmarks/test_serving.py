"""The serving benchmark: its load is what it says, and its goals compare what is of one round."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.datasets import invented
from benchmarks.harness import BenchmarkFailed, Json, temporary_home
from benchmarks.learning.data import Split
from benchmarks.serving import systems
from benchmarks.serving.cold_start import cold_start
from benchmarks.serving.compression import Folders, measure
from benchmarks.serving.curve import measure as measure_curve
from benchmarks.serving.load import Load, run, write_lines
from benchmarks.serving.preparation import prepare, teach, with_loss
from benchmarks.serving.report import goals
from benchmarks.serving.tables import curve
from pawl.settings import load_settings

_BODIES = [{"text": f'a "quoted" text {number}\n'} for number in range(7)]


class _Server(ThreadingHTTPServer):
    """Answers every POST with `status`, and remembers the bodies."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[Any] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """One request."""
        self.server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: `apt-get install wrk`")


@needs_wrk
@pytest.mark.parametrize("load", [Load(clients=1), Load(clients=4), Load(rate=400.0)])
def test_every_body_is_sent_and_every_answer_counted(server: _Server, tmp_path: Path, load: Load) -> None:
    bodies = write_lines(tmp_path / "bodies", _BODIES)
    found = run(f"http://127.0.0.1:{server.server_port}/", bodies, load, 1.0, os.getpid())
    assert found.failed == 0
    assert 0 < found.requests <= len(server.seen)
    assert {one["text"] for one in server.seen} == {body["text"] for body in _BODIES}
    assert found.memory_mib > 1
    assert 0 < found.p50_ms <= found.p99_ms <= found.max_ms


@needs_wrk
def test_a_failed_request_is_counted(server: _Server, tmp_path: Path) -> None:
    server.status = 503
    bodies = write_lines(tmp_path / "bodies", _BODIES)
    found = run(f"http://127.0.0.1:{server.server_port}/", bodies, Load(clients=2), 1.0, os.getpid())
    assert found.failed >= found.requests > 0


def _round(pawl: float, ceiling: float, litserve: float, ray: float) -> Json:
    def loads(rate: float) -> Json:
        return {"banking77": {f"{n} clients": {"rate": rate, "p50_ms": 5.0, "mean_ms": 5.0} for n in (1, 16, 64)}}

    in_process = {
        "1": {"texts_per_s": ceiling / 2, "call_ms": 4.0},
        "8": {"texts_per_s": ceiling, "call_ms": 9.0},
    }
    return {
        "in-process": {"banking77": in_process},
        "pawl_off": loads(ceiling),
        "pawl": loads(pawl),
        "before": loads(ceiling),
        "litserve": loads(litserve),
        "ray": loads(ray),
    }


def test_goals_compare_within_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    """A round in which the whole machine was half as fast changes no ratio."""
    rounds = [_round(900, 1000, 300, 100), _round(450, 500, 150, 50), _round(800, 1000, 100, 300)]
    found = {one["goal"]: one["met"] for one in goals(rounds, ["banking77"])}
    capsys.readouterr()
    assert found == {
        "banking77: Pawl / in-process at 64 clients: 0.90, wanted >= 1.2": False,
        "banking77: mean latency at 1 client 1.00 x the earlier commit's, wanted <= 0.75": False,
        "banking77, 1 clients: without fast answers / the earlier commit: 1.00, wanted >= 0.97": True,
        "banking77, 16 clients: without fast answers / the earlier commit: 1.00, wanted >= 0.97": True,
        "banking77, 64 clients: without fast answers / the earlier commit: 1.00, wanted >= 0.97": True,
        "banking77, 16 clients: Pawl / the best peer on torch: 3.00, wanted >= 3.0": True,
        "banking77, 64 clients: Pawl / the best peer on torch: 3.00, wanted >= 3.0": True,
        "banking77: p50 at 1 client 1.00 ms above the in-process call, wanted <= 1.5": True,
    }


def test_a_peer_without_an_environment_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match="--make-peers"):
        systems.peers(["litserve-pawl"], tmp_path, tmp_path, "onnxruntime")


def test_a_server_that_does_not_come_up_is_said_with_its_log(tmp_path: Path) -> None:
    broken = systems.System("x", "Broken", ["sh", "-c", "echo no port {port} >&2; exit 3"], dict(os.environ), "/")
    with pytest.raises(BenchmarkFailed, match="no port"), systems.started(broken, tmp_path / "log"):
        pass


def test_a_server_that_is_stopped_leaves_no_process_behind(tmp_path: Path) -> None:
    """The shell ends at once on SIGTERM; what it started does not."""
    marks = tmp_path / "child"
    script = f"sleep 600 & echo $! > {marks}; wait"
    lonely = systems.System("x", "Lonely", ["sh", "-c", script], dict(os.environ), "/")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(systems, "_wait_for_answer", lambda *_: None)
        with systems.started(lonely, tmp_path / "log"):
            while not (marks.exists() and marks.read_text().strip()):
                time.sleep(0.02)
            child = psutil.Process(int(marks.read_text()))
    child.wait(10)


def test_a_cold_start_is_timed_until_the_first_answer(tiny: None, tmp_path: Path) -> None:
    rows = invented(3, 8, random.Random(1))
    with temporary_home(PAWL_BACKEND="onnxruntime") as home:
        prepare(home, rows, random.Random(1))
        found = cold_start(home, [row.text for row in rows], tmp_path / "serve.log")
    assert 0 < found["ready_s"] <= found["answered_s"]
    assert 30 < found["ready_mib"] < 1000


@needs_wrk
def test_the_curve_serves_the_same_home_at_every_loss(tiny: None, tmp_path: Path) -> None:
    rows = invented(3, 60, random.Random(1))
    split = Split("banking77", rows[:120], rows[120:])
    with temporary_home(PAWL_BACKEND="onnxruntime") as home:
        teach(home, {"banking77": split})
        homes = {
            loss: with_loss(home, tmp_path / f"home-{loss}", {"banking77": split}, loss) for loss in ("off", "10.0")
        }
        found = measure_curve(homes, split, 1, 1.0, tmp_path)
    assert found["answers"]["off"]["by_words"] == 0.0
    assert found["answers"]["10.0"]["by_words"] > 0.0
    assert found["answers"]["off"] | {"gained": 0, "lost": 0, "p": 1.0} == found["answers"]["off"]
    table = curve(found).markdown()
    assert table.count("\n| ") == 3, "the head and a row for each loss"


def test_every_compression_is_measured_with_a_head_of_its_own(tiny: None, tmp_path: Path) -> None:
    rows = invented(3, 20, random.Random(1))
    split, settings = Split("invented", rows[:40], rows[40:]), load_settings()
    found = measure(split, Folders(tmp_path, settings), settings, draws=2, rounds=1, distilled=30)
    by_kind = found["rows"]
    assert {"none", "int8", "prune:0.3+int8"} <= by_kind.keys()
    assert by_kind["prune:0.3+int8"]["megabytes"] < by_kind["int8"]["megabytes"] < by_kind["none"]["megabytes"]
    for row in by_kind.values():
        assert len(row["accuracy"]) == 2
        assert row["mean_accuracy"] > 50, "three invented classes are easily told apart"
        assert row["per_s_16"] > 0
