"""An import is one thing, and waits for its rows; see docs/design.md, section 2."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from pawl.db.engine import connect
from pawl.db.labels import SqlLabelStore
from pawl.domain.labels import LabelChangeKind, LabelRequest
from tests.app.commands.processes import ROOT, Up, command, environment, eventually, pawl, processes_of
from tests.polling import command_line


@pytest.fixture
def env(short_folder: Path, tiny_encoder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    return environment(short_folder / f"w{abs(hash(request.node.name)) % 10**6}", tiny_encoder, PAWL_PORT="1")


def states(env: dict[str, str]) -> dict[str, int]:
    with sqlite3.connect(Path(env["PAWL_HOME"]) / "pawl.db") as database:
        found = dict(database.execute("SELECT state, count(*) FROM samples GROUP BY state").fetchall())
    database.close()
    return found


def rows(path: Path, count: int, labels: tuple[str, ...] = ("pay", "ship")) -> Path:
    lines = [f"please {labels[n % len(labels)]} it {n},{labels[n % len(labels)]}" for n in range(count)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def retire(env: dict[str, str], label: str) -> None:
    """Decided by an operator; nothing of it is learned, so no learner is needed."""

    async def run() -> None:
        engine = connect(f"sqlite:///{env['PAWL_HOME']}/pawl.db")
        labels = SqlLabelStore(engine)
        await labels.request(LabelRequest(LabelChangeKind.ADD, "default", label))
        change = await labels.request(LabelRequest(LabelChangeKind.RETIRE, "default", label))
        await labels.apply(change.id)
        await engine.dispose()

    asyncio.run(run())


def test_an_import_is_one_thing_all_of_it_or_none_is_accepted_whatever_rule_a_row_breaks(
    env: dict[str, str], tmp_path: Path
) -> None:
    assert pawl(env, "import", str(rows(tmp_path / "first.csv", 1)), "--golden").returncode == 0
    retire(env, "gone")
    file = rows(tmp_path / "many.csv", 3000)
    lines = file.read_text().splitlines()
    lines[1501] = "a text,gone"
    lines[2001] = "no label,"
    file.write_text("\n".join(lines) + "\n")
    refused = pawl(env, "import", str(file), "--golden")
    assert refused.returncode == 1
    named = [line for line in refused.stderr.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in named] == ["line 1502", "line 2002"]
    assert "retired" in named[0]
    assert "2 of 3000 rows" in refused.stderr
    assert states(env) == {"golden": 1}
    skipped = pawl(env, "import", str(file), "--golden", "--skip-bad", "--json")
    assert skipped.returncode == 3
    told = json.loads(skipped.stdout)
    assert (told["rows"], told["new"], told["known"], told["skipped"]) == (2998, 2997, 1, 2)
    rejected = [json.loads(line) for line in Path(told["rejected_rows"]).read_text().splitlines()]
    assert [(row["line"], row["row"]) for row in rejected] == [(1502, ["a text", "gone"]), (2002, ["no label", ""])]
    assert states(env) == {"golden": 2998}


def test_a_killed_import_stored_all_or_nothing(env: dict[str, str], tmp_path: Path) -> None:
    assert pawl(env, "import", str(rows(tmp_path / "first.csv", 1)), "--golden").returncode == 0
    file = rows(tmp_path / "many.csv", 6_000)
    log = Path(env["PAWL_HOME"]) / "pawl.db-wal"
    seen = set()
    for part in range(2):
        process = subprocess.Popen(command("import", str(file), "--golden"), env=env, cwd=ROOT, stderr=subprocess.PIPE)
        eventually(lambda: log.exists() and log.stat().st_size > 0, "it writes")
        time.sleep(0.15 * part)
        process.kill()
        process.communicate()
        seen.add(sum(states(env).values()))
    assert seen <= {1, 6_000}
    done = pawl(env, "import", str(file), "--golden")
    assert done.returncode == 0, done.stderr
    assert states(env) == {"golden": 6_000}


def test_skipping_stops_by_itself_where_too_much_is_bad(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("text,label\n" + "".join(f"text {n},{'a' if n % 5 else ''}\n" for n in range(100)))
    refused = pawl(env, "import", str(file), "--golden", "--skip-bad")
    assert refused.returncode == 1
    assert "20 of 100 rows" in refused.stderr
    assert "--max-bad" in refused.stderr
    assert states(env) == {}
    assert pawl(env, "import", str(file), "--golden", "--skip-bad", "--max-bad", "20").returncode == 3
    assert states(env) == {"golden": 80}


def drains(env: dict[str, str]) -> list[int]:
    return [p.pid for p in processes_of(Path(env["PAWL_HOME"])) if "--drain" in command_line(p)]


def worker(env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("work"), env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def test_a_command_waits_for_the_condition_it_needs_not_for_a_party_chosen_at_the_start(
    env: dict[str, str], tmp_path: Path
) -> None:
    """A learner appears when the import has started its own, and goes away while the next import waits for it."""
    file = rows(tmp_path / "a.csv", 400)
    importing = subprocess.Popen(command("import", str(file)), env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    eventually(lambda: drains(env), "it has started a learner of its own")
    learner = worker(env)
    try:
        told, _ = importing.communicate(timeout=120)
        assert importing.returncode == 0, told
        assert "version 1 is live" in told
        assert states(env) == {"learned": 400}
        eventually(lambda: not drains(env), "its own learner is gone")
        learner.send_signal(signal.SIGSTOP)  # alive by its lease, and doing nothing
        more = rows(tmp_path / "b.csv", 300, ("refund", "ask"))
        importing = subprocess.Popen(command("import", str(more)), env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        time.sleep(2)
        learner.send_signal(signal.SIGKILL)
        told, _ = importing.communicate(timeout=120)
        assert importing.returncode == 0, told
        assert states(env) == {"learned": 700}
    finally:
        learner.kill()
        learner.wait()


def test_what_cannot_be_learned_yet_ends_with_3_beside_a_learner_too(env: dict[str, str], tmp_path: Path) -> None:
    with Up(env, "--no-demo") as up:
        up.ready()
        done = pawl(up.env, "import", str(rows(tmp_path / "one.csv", 30, ("only",))))
        assert done.returncode == 3, done.stderr
        assert "two labels" in done.stdout
        rest = pawl(up.env, "import", str(rows(tmp_path / "two.csv", 5, ("other",))))
        assert rest.returncode == 0, rest.stderr
        assert states(env) == {"learned": 35}


@pytest.mark.parametrize("attempt", range(int(os.environ.get("IMPORT_ROUNDS", "1"))))
def test_an_import_in_the_first_second_after_ready_ends(env: dict[str, str], tmp_path: Path, attempt: int) -> None:
    """The long form: IMPORT_ROUNDS=10."""
    with Up(env, "--no-demo") as up:
        up.ready()
        done = pawl(up.env, "import", str(rows(tmp_path / f"{attempt}.csv", 200)))
        assert done.returncode == 0, done.stderr
        assert "version 1 is served" in done.stdout
