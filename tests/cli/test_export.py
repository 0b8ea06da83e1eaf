"""`pawl export samples`, and that the file makes the same model again."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from app.commands.files.exported import escaped, unescaped
from tests.cli.processes import Up, environment, pawl, pawl_json

TEXTS = ["pay the bill 3", "ship it to 7", "where is my parcel", "what is -1", "a good day", "what is =A1?"]


def scores(up: Up) -> dict[tuple[str, str], dict[str, float]]:
    """Every label's score for every text, by task and text."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for task in ("default", "mood"):
        answer = pawl_json(up.env, "predict", *TEXTS, "--task", task, "--top-k", "10")
        for text, prediction in zip(TEXTS, answer["predictions"], strict=True):
            found[task, text] = {each["label"]: each["score"] for each in prediction["scores"]}
    return found


@pytest.fixture(scope="module")
def origin(short_folder: Path, tiny_encoder: Path) -> Any:
    """A home with all that a sample can have: corrections with emphasis, weights, golden, pinned and quarantined
    samples, renamed and retired labels, two tasks, and a lambda that was chosen when it was smaller.
    """
    env = environment(short_folder / "origin", tiny_encoder)
    folder = short_folder / "origin-files"
    folder.mkdir()
    words = {"pay": "Zahlung", "ship": "Versand", "ask": "Frage", "old": "alt"}
    rows = "".join(f"please {word} it {n},{label}\n" for n in range(12) for word, label in words.items())
    (folder / "first.csv").write_text("text,label\n" + rows)
    (folder / "mood.csv").write_text(
        "text,label\n" + "".join(f"{w} day {n},{w}\n" for n in range(8) for w in ("good", "bad"))
    )
    (folder / "golden.csv").write_text("text,label\nplease pay for gold,Zahlung\n")
    (folder / "pinned.csv").write_text('text,label\n"=1+1, ""please""",Frage\n\'quoted,Frage\n')
    assert pawl(env, "import", str(folder / "first.csv")).returncode == 0
    with Up(env, "--no-demo") as up:
        up.ready()
        assert pawl(env, "import", str(folder / "mood.csv"), "--task", "mood", "--create-task").returncode == 0
        assert pawl(env, "import", str(folder / "golden.csv"), "--golden").returncode == 0
        assert pawl(env, "import", str(folder / "pinned.csv"), "--pin").returncode == 0
        for n in range(14):
            sent = pawl(env, "feedback", "--text", f"-{n} where is parcel {n}", "--label", "Versand", "--wait")
            assert sent.returncode == 0, sent.stderr
        assert pawl(env, "feedback", "--text", "please pay it 3", "--label", "Versand", "--wait").returncode == 0
        assert pawl(env, "labels", "rename", "Frage", "Rückfrage", "--wait").returncode == 0
        assert pawl(env, "labels", "retire", "alt", "--wait").returncode == 0
        yield up


def test_the_same_file_imports_again_to_the_same_model(
    origin: Up, short_folder: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    before = scores(origin)
    counted: dict[str, dict[str, int]] = {}
    for format in ("jsonl", "csv", "parquet"):
        file = tmp_path / f"all.{format}"
        done = pawl(origin.env, "export", "samples", str(file), "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["states"]["golden"] == 1
        counted[format] = told["states"]
        env = environment(short_folder / f"copy-{format}", tiny_encoder)
        with Up(env, "--no-demo") as copy:
            copy.ready()
            back = pawl(env, "import", str(file))
            assert back.returncode == 0, back.stdout + back.stderr
            assert "an export of Pawl" in back.stderr
            after = scores(copy)
            again = pawl_json(env, "export", "samples", str(tmp_path / f"again.{format}"))
            assert again["states"] == counted[format]
        assert after.keys() == before.keys()
        for key, labels in before.items():
            assert after[key].keys() == labels.keys(), key
            for label, score in labels.items():
                assert math.isclose(after[key][label], score, abs_tol=1e-5), (format, key, label)
    assert len({json.dumps(states, sort_keys=True) for states in counted.values()}) == 1


def test_what_is_exported_and_what_is_left_out(origin: Up) -> None:
    done = pawl(origin.env, "export", "samples", "-", "--task", "mood")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 16
    assert {row["task"] for row in rows} == {"mood"}
    assert {row["state"] for row in rows} == {"learned"}
    rest = pawl(origin.env, "export", "samples", "-", "--state", "retracted")
    gone = [json.loads(line) for line in rest.stdout.splitlines()]
    assert {row["label"] for row in gone} == {"alt", "Zahlung"}
    none = pawl(origin.env, "export", "samples", "-", "--since", "2999-01-01")
    assert (none.returncode, none.stdout) == (0, "")
    table = pawl(origin.env, "export", "samples", "-", "--format", "csv")
    cells = {row["text"]: row for row in csv.DictReader(io.StringIO(table.stdout.removeprefix("\ufeff"), newline=""))}
    assert '\'=1+1, "please"' in cells
    assert "''quoted" in cells
    assert not [text for text in cells if text.startswith(("=", "-", "+", "@"))]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["a.doc"], "exports are"),
        (["a.csv", "--format", "xlsx"], "not 'xlsx'"),
        (["a.csv", "--state", "lost"], "no state 'lost'"),
        (["a.csv", "--since", "yesterday"], "is no date"),
        (["nowhere/a.csv"], "cannot write into nowhere"),
    ],
)
def test_a_mistake_is_told(origin: Up, arguments: list[str], problem: str) -> None:
    done = pawl(origin.env, "export", "samples", *arguments)
    assert done.returncode in {1, 2}
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["=1", "-x", "+", "@a", "'a", "''=", "a", "", "\tx", "a=b", "'"])
def test_an_escaped_text_comes_back(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t"))
