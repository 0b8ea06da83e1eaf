"""The README is run: its commands against a real `pawl up` with the default encoder and the demo model."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from app.cli import cli
from app.metrics import AppMetrics
from pawl.settings import PREFIX, Settings
from tests.app.commands.processes import ROOT, Up
from tests.docs.settings_table import settings_page

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
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
    assert [block.language for block in BLOCKS] == ["bash"] * 5 + ["python"] * 2
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


def test_the_first_screen_is_about_ones_own_data(up: Up, short_folder: Path) -> None:
    """Nothing of the demo gets into it: what the commands of the README print, on a home of its own.

    The encoder that the demo's home has exported is there already.
    """
    assert "$ pawl up --no-demo " in "\n".join(README.splitlines()[:12])
    folder = _own_files(short_folder / "own data")
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    pawl = folder / "bin" / "pawl"
    pawl.parent.mkdir()
    pawl.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -P -m app.cli "$@"\n')
    pawl.chmod(0o755)
    env |= {"PAWL_HOME": str(short_folder / "own"), "PATH": f"{pawl.parent}{os.pathsep}{env['PATH']}"}
    shutil.copytree(up.home / "encoders", short_folder / "own" / "encoders")
    first = README[: README.index("## Install")]
    own = README[README.index("## Your own data") : README.index("## Command line")]
    with Up(env, "--no-demo") as running:
        assert running.ready(240.0).endswith(" no version yet")
        for call, shown in _console(first + own):
            if not call.startswith("pawl ") or call.startswith("pawl up"):
                continue
            done = subprocess.run(
                ["bash", "-ec", call], capture_output=True, text=True, cwd=folder, env=env, timeout=240, check=False
            )
            told = done.stdout + done.stderr
            assert done.returncode == 0, f"{call}: {told}"
            for line in shown:
                assert line in told.splitlines(), f"{call}: {told}"
    assert len((folder / "answers.tsv").read_text().splitlines()) == 3
    assert (folder / "backup.jsonl").read_text().count("\n") > 400


def _console(page: str) -> list[tuple[str, list[str]]]:
    """Commands in blocks of console text, each with the lines shown after it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((re.sub(r"\s+# .*", "", line[2:]), []))
            else:
                found[-1][1].append(line)
    return found


def _own_files(folder: Path) -> Path:
    """The files that the README's commands name."""
    folder.mkdir()
    support = (ROOT / "app" / "demo" / "support.csv").read_text(encoding="utf-8")
    (folder / "tickets.csv").write_text(support, encoding="utf-8")
    (folder / "must-stay-right.csv").write_text("text,label\nthe parcel never came,order_status\n", encoding="utf-8")
    headlines = csv.DictReader((ROOT / "app" / "demo" / "headlines.csv").read_text(encoding="utf-8").splitlines())
    with (folder / "headlines.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([("text", "label"), *((row["text"], row["topic"]) for row in headlines)])
    (folder / "new.csv").write_text("text\nwhere is it\nit broke\nmy address changed\n", encoding="utf-8")
    sheet = openpyxl.Workbook()
    assert sheet.active is not None
    sheet.active.title = "Sheet1"
    sheet.active.append(["内容", "标签"])
    for text, label in _CHINESE:
        sheet.active.append([text, label])
    sheet.save(folder / "工单.xlsx")
    return folder


_CHINESE = [
    *((text, "物流") for text in ("我的订单什么时候到", "包裹还没有送到", "快递丢失了", "请问几天能收到货")),
    *((text, "退款") for text in ("我要退款", "钱什么时候退回", "申请退货退款", "退款还没到账")),
    *((text, "发票") for text in ("怎么开发票", "发票抬头写错了", "需要电子发票", "请补开发票")),
]


def test_the_demo_answers_as_shown(up: Up) -> None:
    screen = README[README.index("## Try it with the demo") : README.index("### Correct it")]
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
    for place in (up.home, up.home / "artefacts" / "versions" / "00000001"):
        [row] = run("offline.py", str(place), "sentiment", stdin="Profit jumps 20% at Nordic grocer\n\n")
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
