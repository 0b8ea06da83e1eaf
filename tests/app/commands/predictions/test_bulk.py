"""`pawl predict` of many texts, against a real service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.commands.predictions.bulk import Asked, batches
from tests.app.commands.processes import ROOT, Up, command, environment, pawl, pawl_json


@pytest.fixture(scope="module")
def up(short_folder: Path, tiny_encoder: Path) -> Iterator[Up]:
    env = environment(short_folder / "bulk", tiny_encoder, PAWL_MAX_TEXTS="50")
    file = short_folder / "bulk.csv"
    file.write_text("text,label\n" + "".join(f"{w} it {n},{w}\n" for n in range(10) for w in ("pay", "ship")))
    assert pawl(env, "import", str(file)).returncode == 0
    with Up(env, "--no-demo") as up:
        up.ready()
        yield up


def piped(env: dict[str, str], text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("predict", *arguments), env=env, cwd=ROOT, input=text, capture_output=True, text=True, check=False
    )


def test_more_texts_than_a_request_takes_are_cut_and_answered_in_order(up: Up, tmp_path: Path) -> None:
    """The service takes 50 here, the command line sends 256 at most."""
    texts = [f"{'pay' if n % 2 else 'ship'} it {n}" for n in range(400)]
    answer = pawl_json(up.env, "predict", *texts)
    assert len(answer["predictions"]) == 400
    file = tmp_path / "texts.csv"
    file.write_text("id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))
    done = pawl(up.env, "predict", "--file", str(file), "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == texts
    assert [row["line"] for row in rows] == list(range(2, 402))
    assert [row["label"] for row in rows] == [one["label"] for one in answer["predictions"]]
    assert {row["version"] for row in rows} == {answer["version"]}
    assert "delimiter ','" in done.stderr


def test_standard_input_is_a_text_a_line_json_or_a_table(up: Up) -> None:
    plain = piped(up.env, "pay it, now\nship it; später\n", "-")
    assert plain.returncode == 0, plain.stderr
    assert [line.split("\t")[1] for line in plain.stdout.splitlines()] == ["pay it, now", "ship it; später"]
    assert {line.split("\t")[2] for line in plain.stdout.splitlines()} <= {"words", "meaning", "both"}
    rows = piped(up.env, '{"text": "pay it"}\n{"text": "ship it"}\n', "-", "--json", "--top-k", "2")
    assert [len(json.loads(line)["scores"]) for line in rows.stdout.splitlines()] == [2, 2]
    table = piped(up.env, "Nachricht;Nr\npay it;1\n", "-")
    assert [line.split("\t")[1] for line in table.stdout.splitlines()] == ["pay it"]


def test_rows_without_a_text_are_named_and_the_exit_status_is_3(up: Up) -> None:
    done = piped(up.env, '{"text": "pay it"}\n{"text": ""}\nno json\n', "-")
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 1
    assert "line 2: it is empty" in done.stderr
    assert "line 3: not valid JSON" in done.stderr
    assert "2 rows" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [([], "either TEXT"), (["a", "--file", "b.csv"], "either TEXT"), (["a", "--format", "csv"], "go with a file")],
)
def test_what_does_not_go_together_is_refused(up: Up, arguments: list[str], problem: str) -> None:
    done = pawl(up.env, "predict", *arguments)
    assert done.returncode == 2
    assert problem in done.stderr


def test_batches_are_cut_by_number_and_by_size() -> None:
    texts = [Asked(n, "x" * 300_000) for n in range(7)]
    assert [len(batch) for batch in batches(texts)] == [3, 3, 1]
    assert [len(batch) for batch in batches([Asked(n, "x") for n in range(600)])] == [256, 256, 88]
