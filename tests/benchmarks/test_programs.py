"""Each benchmark runs from end to end on real processes, with a tiny encoder and invented texts."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import accuracy, class_incremental, consolidation, correction_latency
from benchmarks.datasets import invented, write_csv
from benchmarks.harness import ROOT

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("tiny")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with train.csv and test.csv: six labels, 12 training and 6 test texts each."""
    rows = invented(6, 18, random.Random(1))
    taught: dict[str, int] = {}
    parts: dict[str, list[Any]] = {"train": [], "test": []}
    for row in rows:
        taught[row.label] = taught.get(row.label, 0) + 1
        parts["train" if taught[row.label] <= 12 else "test"].append(row)
    for name, part in parts.items():
        write_csv(tmp_path / f"{name}.csv", part)
    return tmp_path


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Any:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not left, left


def results(folder: Path, name: str) -> dict[str, Any]:
    document = json.loads((folder / f"{name}.json").read_text())
    assert document["benchmark"] == name
    assert document["machine"]["cores"] >= 1
    assert len(document["machine"]["load_average"]) == 3
    assert document["libraries"]["numpy"]
    return dict(document["results"])


def test_accuracy_of_one_label_at_a_time_is_that_of_an_import(data: Path) -> None:
    accuracy.main(["--data", str(data), "--results", str(data), "--quiet", "1"])
    found = results(data, "accuracy")
    assert found["import"]["versions"]["made"] == 1
    assert found["stream"]["states"] == {"learned": 72}
    assert found["import"]["accuracy"] > 50.0
    assert abs(found["import"]["accuracy"] - found["stream"]["accuracy"]) <= 100 * 2 / 36


def test_classes_arrive_in_waves(data: Path) -> None:
    class_incremental.main(
        ["--data", str(data), "--results", str(data), "--base", "3", "--waves", "2", "--quiet", "0.5"]
    )
    found = results(data, "class_incremental")
    assert [one["classes"] for one in found["steps"]] == [3, 2, 1]
    assert found["steps"][1]["states"] == {"learned": 24}
    assert [len(row) for row in found["b"]] == [1, 2, 3]
    assert found["b"][2][2] == found["accuracy"], "the last column allows every label"
    assert found["cumulative_forgetting"] <= found["cumulative_forgetting_worst"]


def test_a_consolidation_is_measured_before_and_after(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAWL_EPOCHS", "1")
    consolidation.main(["--data", str(data / "train.csv"), "--results", str(data)])
    found = results(data, "consolidation")
    assert (found["train"], found["test"]) == (58, 14)
    assert found["state"] in {"live", "refused"}
    assert ("after" in found) == (found["state"] == "live")
    assert found["metrics"]["consolidation"]["wall_s"]


def test_every_correction_is_timed_and_its_time_accounted_for(data: Path) -> None:
    options = ["--samples", "100", "--corrections", "6", "--gap", "0.1"]
    correction_latency.main(["--data", str(data), "--results", str(data), *options])
    [found] = results(data, "correction_latency")["sizes"]
    assert found["seeded"] == 28
    assert found["learned_at_the_end"] >= 100
    assert len(found["seconds"]) == 6
    assert 0.0 < found["p50"] <= found["p95"] <= found["max"]
    assert all(value > 0.0 for value in found["stages_p50_ms"].values()), found["stages_p50_ms"]
    assert found["answered_as_corrected"] == 1.0


@pytest.mark.parametrize("name", ["accuracy", "class_incremental", "consolidation", "correction_latency"])
def test_both_ways_of_starting_explain_themselves(name: str) -> None:
    for command in (["-m", f"benchmarks.{name}"], [f"benchmarks/{name}.py"]):
        done = subprocess.run(
            [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "--data" in done.stdout


def test_missing_data_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/accuracy.py", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert str(tmp_path / "train.csv") in done.stderr.replace("\n", "")
