"""Every command's help: a summary, words for what options take, an explanation for each; exit codes that are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app.cli import cli, main

WIDTH = {"COLUMNS": "120", "TERMINAL_WIDTH": "120"}


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _commands(below, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(cli)))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "pawl")
def test_help_says_what_it_does_in_words(path: tuple[str, ...]) -> None:
    done = CliRunner(env=WIDTH).invoke(cli, [*path, "--help"], prog_name="pawl")
    assert done.exit_code == 0, done.output
    assert not re.search(r"<\w", done.output), "types of Python"
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    assert lines[0].startswith(" ".join(["Usage: pawl", *path]))
    assert re.match(r"[A-Z].*[.,]|[A-Z].{20,}", lines[1]), "a summary"
    assert len(lines) <= 70
    for param in COMMANDS[path].params:
        if not getattr(param, "hidden", False):
            assert param.help, f"{path} {param.name} is not explained"


def test_every_command_has_a_summary_in_the_list_above_it() -> None:
    for path, command in COMMANDS.items():
        if path:
            assert len(command.get_short_help_str(200)) > 15, path


def test_a_subcommands_help_is_its_own() -> None:
    output = CliRunner(env=WIDTH).invoke(cli, ["quarantine", "release", "--help"]).output
    assert "Let labels be learned after all" in output
    assert "--limit" not in output
    assert len(output.splitlines()) < 40


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["up", "--prot", "1"],
        ["predict"],
        ["versions", "first"],
        ["promote", "1"],
        ["feedback", "--label", "a"],
        ["quarantine", "free", "fb_1"],
        ["quarantine", "release", "fb_1"],
        ["labels", "rename", "a"],
        ["tune", "--trials", "0"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pawl", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(cli, ["--version"])
    assert (done.exit_code, done.output.split()[0]) == (0, "pawl")
