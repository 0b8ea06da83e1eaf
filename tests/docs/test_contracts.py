"""Import-linter's contracts (pyproject.toml) hold new files too: one that breaks a contract is found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "worker", "pawl", "migrations")

BROKEN_BY = {
    "app and worker rest on pawl and do not know each other": ("worker/health/told.py", "import app.errors"),
    "the layers of pawl": ("pawl/unplaced.py", ""),
    "the layers of worker": ("worker/unplaced.py", ""),
    "the layers of app": ("app/unplaced.py", ""),
    "no circles, between packages or within one": ("pawl/ports/stores.py", "import pawl.artefacts.healing"),
    "pawl is no web service": ("pawl/versions/routes.py", "import fastapi"),
    "the domain imports itself and a little of the standard library": ("pawl/domain/arrays.py", "import numpy"),
    "an adapter is named where a process is put together": ("app/serving/direct.py", "import pawl.db.engine"),
    "a backend that serves is opened where backends are chosen": (
        "worker/updates/fast.py",
        "import pawl.classifier.encoders.backends.onnx",
    ),
    "the child knows neither the loop nor its state nor what is released": (
        "worker/consolidation/followed.py",
        "import worker.loop",
    ),
}
"""Contract -> a new file that breaks it."""


def test_a_new_file_that_breaks_a_contract_is_found(tmp_path: Path) -> None:
    only_python = shutil.ignore_patterns("__pycache__", "*.csv", "*.json")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=only_python)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, content in BROKEN_BY.values():
        (tmp_path / path).write_text(content + "\n", encoding="utf-8")
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    outcomes = dict(re.findall(r"^(.+) (KEPT|BROKEN)", done.stdout, re.MULTILINE))
    assert done.returncode == 1, done.stdout + done.stderr
    assert outcomes == dict.fromkeys(BROKEN_BY, "BROKEN"), done.stdout


def test_every_contract_is_tried() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    assert [contract["name"] for contract in contracts] == list(BROKEN_BY)
