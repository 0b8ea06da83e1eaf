"""Another encoder than the one a home was made with: refused at the start with the command, carried out by it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.app.commands.processes import Up, environment, eventually, pawl, pawl_json
from tests.intents import labelled
from tests.tiny_encoder import write_tiny_encoder

pytestmark = pytest.mark.timeout(600)
ROWS = 120


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two encoders of different weights and sizes."""
    folder = tmp_path_factory.mktemp("encoders")
    first = write_tiny_encoder(folder / "first")
    return first, write_tiny_encoder(folder / "second", seed=1, dimension=48)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, encoders: tuple[Path, Path]) -> Path:
    """A home with a version on the first encoder; only to be copied."""
    folder = tmp_path_factory.mktemp("made")
    rows = folder / "rows.csv"
    with rows.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *labelled(ROWS)])
    done = pawl(environment(folder / "home", encoders[0]), "import", str(rows))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "home"


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "home")


def test_settings_that_contradict_the_data_are_an_error_or_a_plan_never_ignored(
    home: Path, encoders: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = encoders
    rows = tmp_path / "more.csv"
    rows.write_text("text,label\nanother one,card\n")
    contradicting = environment(home, second)
    for command in (["up", "--port", "0"], ["import", str(rows)]):
        refused = pawl(contradicting, *command)
        assert refused.returncode != 0, (command, refused.stdout)
        said = " ".join(refused.stderr.split())
        for part in (f"PAWL_ENCODER asks for {second}", f"version 1 serves {first}", f"pawl encoder set {second}"):
            assert part in said, (command, said)
    examined = pawl(contradicting, "doctor")
    assert examined.returncode == 1
    assert "pawl encoder set" in examined.stdout
    missing = pawl(environment(home, tmp_path / "nowhere"), "work")
    assert missing.returncode != 0
    assert f"{tmp_path / 'nowhere'} (there is no such folder)" in " ".join(missing.stderr.split())


def test_an_encoder_that_was_moved_is_no_contradiction(home: Path, encoders: tuple[Path, Path], tmp_path: Path) -> None:
    moved = shutil.copytree(encoders[0], tmp_path / "moved")
    shown = pawl_json(environment(home, moved), "encoder", "show")
    assert shown["contradictions"] == []
    assert shown["made_with"]["encoder"] == str(encoders[0])


def test_another_encoder_is_set_and_all_samples_are_there(home: Path, encoders: tuple[Path, Path]) -> None:
    first, second = encoders
    env = environment(home, first, PAWL_GATE_MAX_LATENCY_RATIO="100")
    tried = pawl(env, "encoder", "set", str(second), "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert f"encoder: '{first}' -> '{second}'" in tried.stdout
    assert "nothing was changed" in tried.stdout
    done = pawl(env, "encoder", "set", str(second), "--reason", "a test", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ROWS} samples have embeddings of {second}" in done.stdout
    assert f"task default: {ROWS} texts learned" in done.stdout
    assert "each answered without itself" in done.stdout
    assert f"PAWL_ENCODER is {first} here" in " ".join(done.stderr.split())
    refused = pawl(env, "work")
    assert refused.returncode != 0
    assert f"version 2 serves {second}" in refused.stderr
    shown = pawl_json(environment(home, second), "encoder", "show")
    assert (shown["version"], shown["dimension"]) == (2, 96)
    assert shown["request"]["state"] == "applied"
    assert shown["request"]["report"]["tasks"]["default"]["items"] > 0
    again = pawl(environment(home, None), "encoder", "set", str(second), "--wait")
    assert "nothing to do" in again.stdout
    unusable = pawl(environment(home, None), "encoder", "set", str(home), "--wait")
    assert unusable.returncode == 1
    assert "it has no config.json" in unusable.stderr
    with Up(environment(home, second), "--no-demo") as running:
        running.ready()
        version = pawl_json(environment(home, second), "versions", "2")
        assert (version["kind"], version["reason"]) == ("encoder", "a test")
        assert version["metrics"]["encoder"]["embedded"] == ROWS


def test_corrections_go_on_while_another_encoder_is_made(home: Path, encoders: tuple[Path, Path]) -> None:
    env = environment(home, None, PAWL_GATE_MAX_LATENCY_RATIO="100")
    with Up(env, "--no-demo") as running:
        running.ready()
        asked = pawl_json(env, "encoder", "set", str(encoders[1]))
        assert asked["state"] == "pending"
        learned = pawl_json(env, "feedback", "--text", "a wholly new text", "--label", "card", "--wait")
        assert learned["state"] == "learned"
        shown = eventually(
            lambda: (now := pawl_json(env, "encoder", "show"))["request"]["state"] != "pending" and now,
            "the request is settled",
        )
        assert shown["request"]["state"] == "applied", shown
        state = pawl_json(env, "status")["model"]
        mine = pawl(environment(home, encoders[0]), "status")
        assert f"here: PAWL_ENCODER asks for {encoders[0]}" in mine.stdout, mine.stdout + mine.stderr
        assert state["encoder_digest"] == shown["encoder_digest"]
        assert state["contradictions"] == []


def test_one_that_the_gate_finds_worse_is_refused_with_the_numbers(home: Path, encoders: tuple[Path, Path]) -> None:
    env = environment(home, None, PAWL_GATE_MAX_LATENCY_RATIO="0.0001")
    refused = pawl(env, "encoder", "set", str(encoders[1]), "--wait")
    assert refused.returncode == 1, refused.stdout
    assert "the gate refused version 2" in refused.stderr
    assert "times as long as before" in refused.stdout
    assert "--accept REASON" in refused.stderr
    assert pawl_json(env, "encoder", "show")["version"] == 1
    asked = environment(home, encoders[1])
    assert "It was tried and refused" in " ".join(pawl(asked, "work").stderr.split())
    accepted = pawl(env, "encoder", "set", str(encoders[1]), "--accept", "we mean it", "--wait")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    shown = pawl_json(env, "encoder", "show")
    assert (shown["version"], shown["request"]["report"]["forced"]) == (3, "we mean it")


def test_an_import_that_the_encoder_cannot_read_says_so(home: Path, tmp_path: Path) -> None:
    env = environment(home, None)
    rows = tmp_path / "unread.csv"
    lines = [("华为发布新款手机", "tech"), ("央行下调准备金率", "money")]
    lines += [("my card is not here " * 30 + end, label) for end, label in (("one", "tech"), ("two", "money"))]
    with rows.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *lines])
    done = pawl(env, "import", str(rows), "--task", "zh", "--create-task")
    said = done.stdout + done.stderr
    assert "unknown_language: " in said
    assert "`pawl encoder set multilingual` reads them" in said
    assert "truncated: 2 of 4 texts have more tokens than the encoder takes (64)" in said
    assert "cannot_hold: 2 of these differ from others only after that" in said
    told = pawl(env, "doctor").stdout
    assert " texts " in told.replace("\n", " ")
    assert "unknown to the encoder" in " ".join(told.split())
