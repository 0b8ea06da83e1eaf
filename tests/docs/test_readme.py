"""The README is run: its commands against a real `pawl up` with the default encoder and the demo model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli import cli
from app.core.metrics import AppMetrics
from app.core.settings import PREFIX, Settings
from tests.cli.processes import ROOT, Up
from tests.docs.settings_table import settings_page

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = r"```(?P<{0}language>\w+)\n(?P<{0}body>.*?)```\n"
_TESTED = re.compile(
    rf"<!-- tested -->\n{_FENCE.format('')}(?:\n{_FENCE.format('out_')})?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block that must work, and the output that the README shows after it."""

    language: str
    body: str
    shown: str | None


BLOCKS = [Block(m["language"], m["body"], m["out_body"]) for m in _TESTED.finditer(README)]


@pytest.fixture(scope="module")
def up(short_folder: Path) -> Iterator[Up]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with Up(env | {"PAWL_HOME": str(short_folder / "readme")}) as running:
        assert running.ready(240.0).endswith(" version 1")
        yield running


def shape(value: Any) -> Any:
    """JSON with what differs from run to run left out: digits of scores, all but the prefix of ids."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, float):
        assert 0.0 <= value <= 1.0
        return "a share"
    return re.sub(r"^(pr|fb)_[0-9a-f]{32}$", r"\1_...", value) if isinstance(value, str) else value


def test_blocks_do_what_the_readme_shows(up: Up) -> None:
    """In the order of the page: the correction in the middle changes the answer after it."""
    assert [block.language for block in BLOCKS] == ["bash"] * 4 + ["python"]
    for block in BLOCKS:
        body = block.body.replace("http://localhost:8000", up.url).replace("localhost:8000", up.url)
        body = body.replace("~/.pawl", str(up.home))
        run = ["bash", "-ec", body] if block.language == "bash" else [sys.executable, "-c", body]
        done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env=up.env, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        if block.language == "python":
            assert done.stdout == block.shown
        elif block.shown is not None:
            assert shape(json.loads(done.stdout)) == shape(json.loads(block.shown)), body
        else:
            assert "predictions" in json.loads(done.stdout)


def test_the_first_screen_shows_the_two_commands_and_what_they_print(up: Up) -> None:
    screen = "\n".join(README.splitlines()[:30])
    assert "$ make run\nready http://127.0.0.1:8000 version 1\n" in screen
    [call] = re.findall(r"^\$ (curl .*)$", screen, re.MULTILINE)
    done = subprocess.run(
        ["bash", "-ec", call.replace("localhost:8000", up.url)], capture_output=True, text=True, timeout=60, check=True
    )
    answer = json.loads(done.stdout)["predictions"][0]
    [shown] = re.findall(r'^\{"version":1.*"label":"(\w+)","score".*$', screen, re.MULTILINE)
    assert answer["label"] == shown


def test_the_examples_run(up: Up) -> None:
    def run(name: str, *arguments: str, stdin: str = "") -> list[str]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / name), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=up.env | {"PYTHONPATH": str(ROOT)},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    corrected = run("correct.py", up.url)
    assert [line.split()[0] for line in corrected[-3:]] == ["warranty", "warranty", "order_status"]
    first = up.home / "artefacts" / "versions" / "00000001"
    [row] = run("offline.py", str(first), "sentiment", stdin="Profit jumps 20% at Nordic grocer\n\n")
    assert row.split("\t")[0] == "positive"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run: python -m tests.docs.settings_table > docs/settings.md"


def test_settings_metrics_and_commands_that_are_named_exist() -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"{PREFIX}[A-Z0-9_]+[A-Z0-9]", README)) <= settings
    metrics = set(re.findall(r"^# HELP (\w+)", AppMetrics().exposition().decode(), re.MULTILINE))
    assert set(re.findall(r"`(pawl_\w+)`", README)) <= metrics
    commands = {command.name or (command.callback and command.callback.__name__) for command in cli.registered_commands}
    commands |= {str(group.typer_instance.info.name) for group in cli.registered_groups if group.typer_instance}
    used = set(re.findall(r"(?:^\$ |`)pawl ([a-z-]+)", README, re.MULTILINE))
    assert used <= commands
    assert commands <= used


def test_every_decision_record_is_listed() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    records = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert len(records) >= 6
    for record in records:
        assert f"({record.name})" in index
        text = record.read_text(encoding="utf-8")
        for heading in ("Context", "Decision", "Consequences", "Alternatives"):
            assert f"## {heading}\n" in text, record.name
