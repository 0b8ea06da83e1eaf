"""`pawl export samples`, and that the file makes the same model again."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load_file

from app.commands.console.terminal import CommandFailed
from app.commands.data.export import ExportRequest, export_samples, moment
from app.commands.data.files.exported import escaped, unescaped
from app.commands.home.stores import open_stores
from pawl import load
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import NewSample, Origin
from pawl.settings import Settings
from tests.app.commands.processes import Up, environment, eventually, pawl, pawl_json

TEXTS = ["pay the bill 3", "ship it to 7", "where is my parcel", "what is -1", "a good day", "what is =A1?"]


def scores(home: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Every label's score for every text, by task and text, from the newest version that serves."""
    with sqlite3.connect(home / "pawl.db") as database:
        [(number,)] = database.execute("SELECT number FROM versions WHERE state = 'live'").fetchall()
    database.close()
    model = load(home / "artefacts" / "versions" / f"{number:08}", threads=1)
    found = {}
    for task in ("default", "mood"):
        for text, answer in zip(TEXTS, model.predict(TEXTS, task=task, top_k=10), strict=True):
            found[task, text] = {each.label: each.score for each in answer.scores}
    return found


def kept(home: Path) -> list[int]:
    """The texts of the first task that words never answer alone, in the newest version that serves."""
    folder = max((home / "artefacts" / "versions").glob("0*"))
    numbers: list[int] = load_file(folder / "lexical" / "default.safetensors")["kept"].tolist()
    return numbers


@pytest.fixture(scope="module")
def origin(short_folder: Path, tiny_encoder: Path) -> dict[str, str]:
    """The environment of a home with all that a sample can have: corrections with emphasis, weights, golden and pinned
    samples, renamed and retired labels, a replaced one, one in quarantine, and two tasks.
    """
    env = environment(short_folder / "origin", tiny_encoder, PAWL_QUARANTINE_WINDOW="0")
    words = {"pay": "Zahlung", "ship": "Versand", "ask": "Frage", "old": "alt"}
    first = [NewSample(f"please {word} it {n}", label) for n in range(12) for word, label in words.items()]
    moods = [NewSample(f"{w} day {n}", w, task="mood", create_task=True) for n in range(8) for w in ("good", "bad")]
    pinned = [NewSample(text, "Frage", pinned=True) for text in ('=1+1, "please"', "'quoted")]
    first[1] = replace(first[1], emphasis=2.5)
    asyncio.run(put(env, [*first, *moods, NewSample("please pay for gold", "Zahlung", golden=True)]))
    with Up(env, "--no-demo") as up:
        up.ready()
        with httpx.Client(base_url=up.url, timeout=30) as client:
            corrections = [{"text": f"-{n} where is {n}", "label": "Versand", "weight": 1.5} for n in range(8)]
            corrections.append({"text": "please pay it 3", "label": "Versand", "source": "ann"})
            for correction in corrections:
                correct(client, correction)
            asyncio.run(put(env, pinned))
            change(client, "PATCH", "Frage", {"name": "Rückfrage"})
            change(client, "DELETE", "alt", None)
            eventually(lambda: client.get("/v1/model").json()["queue"]["length"] == 0, "all is learned")
    held = NewSample("please pay it 5", "held", hold=Hold(QuarantineKind.FLOW, "a flow"))
    asyncio.run(put(env, [held]))
    return env


async def put(env: dict[str, str], samples: list[NewSample]) -> None:
    """Into the home, without the command line."""
    async with open_stores(Settings(home=Path(env["PAWL_HOME"])), migrate=True) as stores:
        await stores.samples.accept([replace(sample, origin=Origin.IMPORT) for sample in samples])


def change(client: httpx.Client, method: str, label: str, body: dict[str, str] | None) -> None:
    """One decision about a label, carried out."""
    id = client.request(method, f"/v1/labels/{label}", json=body).raise_for_status().json()["id"]
    eventually(lambda: client.get(f"/v1/labels/changes/{id}").json()["state"] == "applied", f"{label} is changed")


def correct(client: httpx.Client, item: dict[str, Any]) -> None:
    """One correction, learned before the next is sent, so that each gets the emphasis that it needs."""
    [receipt] = client.post("/v1/feedback", json=item).raise_for_status().json()["items"]

    def state() -> str | None:
        found = str(client.get(f"/v1/feedback/{receipt['id']}").json()["state"])
        return None if found == "queued" else found

    assert eventually(state, f"{item} is settled") == "learned"


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_the_same_file_imports_again_to_the_same_model(
    origin: dict[str, str], short_folder: Path, tiny_encoder: Path, tmp_path: Path, format: str
) -> None:
    before = scores(Path(origin["PAWL_HOME"]))
    file = tmp_path / f"all.{format}"
    told = pawl_json(origin, "export", "samples", str(file))
    assert {state: told["states"][state] for state in ("golden", "quarantined")} == {"golden": 1, "quarantined": 1}
    env = environment(short_folder / f"copy-{format}", tiny_encoder)
    back = pawl(env, "import", str(file))
    assert back.returncode == 0, back.stdout + back.stderr
    assert "an export of Pawl" in back.stderr
    assert "1 stay in quarantine" in back.stdout
    after = scores(Path(env["PAWL_HOME"]))
    assert {key: labels.keys() for key, labels in after.items()} == {
        key: labels.keys() for key, labels in before.items()
    }
    worst = max(abs(after[key][label] - score) for key, labels in before.items() for label, score in labels.items())
    assert worst < 1e-5
    assert kept(Path(env["PAWL_HOME"])) == kept(Path(origin["PAWL_HOME"])), (
        "words answer no corrected text there either"
    )
    assert pawl_json(env, "export", "samples", str(tmp_path / f"again.{format}"))["states"] == told["states"]


def test_what_is_exported_and_what_is_left_out(origin: dict[str, str]) -> None:
    done = pawl(origin, "export", "samples", "-", "--task", "mood")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 16
    assert {row["task"] for row in rows} == {"mood"}
    assert {row["state"] for row in rows} == {"learned"}
    rest = pawl(origin, "export", "samples", "-", "--state", "retracted")
    gone = [json.loads(line) for line in rest.stdout.splitlines()]
    assert {row["label"] for row in gone} == {"alt", "Zahlung"}
    none = pawl(origin, "export", "samples", "-", "--since", "2999-01-01")
    assert (none.returncode, none.stdout) == (0, "")
    table = pawl(origin, "export", "samples", "-", "--format", "csv")
    cells = {row["text"]: row for row in csv.DictReader(io.StringIO(table.stdout.removeprefix("\ufeff"), newline=""))}
    assert '\'=1+1, "please"' in cells
    assert "''quoted" in cells
    assert not [text for text in cells if text.startswith(("=", "-", "+", "@"))]


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (ExportRequest(Path("a.doc")), "exports are"),
        (ExportRequest(Path("a.csv"), "xlsx"), "not 'xlsx'"),
        (ExportRequest(Path("a.csv"), states=["lost"]), "no state 'lost'"),
        (ExportRequest(Path("nowhere/a.csv")), "cannot write into nowhere"),
    ],
)
async def test_a_mistake_is_told(tmp_path: Path, request_: ExportRequest, problem: str) -> None:
    settings = Settings(home=tmp_path)
    async with open_stores(settings, migrate=True):
        pass
    with pytest.raises(CommandFailed, match=problem):
        await export_samples(settings, request_)
    with pytest.raises(CommandFailed, match="is no date"):
        moment("yesterday")


async def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, file = Settings(home=tmp_path / "home"), tmp_path / "a.jsonl"
    file.write_text("the old one")
    async with open_stores(settings, migrate=True) as stores:
        await stores.samples.accept([NewSample("a", "b")])

    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CommandFailed, match="No space left"):
        await export_samples(settings, ExportRequest(file))
    assert file.read_text() == "the old one"
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "home"]  # noqa: PTH208 - no temporary file is left


@pytest.mark.parametrize("text", ["=1", "-x", "+", "@a", "'a", "''=", "a", "", "\tx", "a=b", "'"])
def test_an_escaped_text_comes_back(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t"))
