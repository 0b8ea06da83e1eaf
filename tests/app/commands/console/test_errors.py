"""Mistakes are answered with a sentence and an exit code, never with a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.commands.processes import environment, pawl


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PAWL_PORT", "seventy", ["PAWL_PORT", "seventy", "integer", ">= 0", "<= 65535"]),
        ("PAWL_PORT", "70000", ["PAWL_PORT", "70000", "65535"]),
        ("PAWL_LOG_LEVEL", "loud", ["PAWL_LOG_LEVEL", "loud", "debug, info, warning, error"]),
        ("PAWL_PROT", "8000", ["PAWL_PROT", "8000", "no such setting", "Did you mean PAWL_PORT?"]),
        ("PAWL_FREEZE", "top-0", ["PAWL_FREEZE", "top-0", "top-k"]),
    ],
)
def test_a_wrong_setting_stops_with_name_value_and_what_is_allowed(
    tmp_path: Path, name: str, value: str, words: list[str]
) -> None:
    done = pawl(environment(tmp_path, None) | {name: value}, "serve")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_secret_in_a_wrong_setting_is_not_printed(tmp_path: Path) -> None:
    url = "mysql://pawl:s3cret@host/db"
    done = pawl(environment(tmp_path, None, PAWL_DATABASE_URL=url), "doctor")
    assert done.returncode == 1
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["predict", "hello"], ["consolidate", "--wait"]],
    ids=lambda arguments: arguments[0],
)
def test_commands_say_what_to_do_when_nothing_runs(tmp_path: Path, arguments: list[str]) -> None:
    done = pawl(environment(tmp_path, None, PAWL_PORT="1"), *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: nothing answers at http://127.0.0.1:1",
        "Start the service with `pawl up`, or name its address with --url.",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["feedback", "--label", "x"], "--id PREDICTION_ID or --text TEXT"),
        (["import", "nothing.csv"], "cannot read nothing.csv"),
        (["import", "notes.txt"], "cannot read notes.txt"),
        (["import", "a.csv", "--task", "No Such Name"], "a task's name has"),
        (["status", "--url", "ftp://example"], "ftp://example"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = pawl(environment(tmp_path, None), *arguments)
    assert done.returncode in {1, 2}
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")
    done = pawl(environment(home, None), "up", "--port", "0")
    assert done.returncode == 1
    assert str(home) in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version() -> None:
    env = environment(Path("unused"), None)
    helped = pawl(env, "--help")
    assert helped.returncode == 0
    for name in ("up", "serve", "work", "import", "predict", "feedback", "status", "versions", "promote", "doctor"):
        assert f" {name} " in helped.stdout
    shown = pawl(env, "--version")
    assert shown.stdout.startswith("pawl ")
