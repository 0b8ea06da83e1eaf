"""`pawl tasks`, `pawl demo remove` and tasks in `pawl import`, against a running `pawl up` that began with the demo."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.app.commands.processes import Up, environment, pawl, pawl_json
from tests.intents import labelled
from tests.tiny_encoder import write_tiny_encoder


def test_own_data_comes_in_beside_the_demo_and_the_demo_goes(tmp_path: Path, short_folder: Path) -> None:
    env = environment(short_folder / "tasks", write_tiny_encoder(tmp_path / "encoder"))
    own, mood = tmp_path / "own.jsonl", tmp_path / "mood.jsonl"
    own.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in labelled(40)))
    mood.write_text("\n".join(json.dumps({"text": text, "label": f"m {label}"}) for text, label in labelled(20)))
    with Up(env) as up:
        up.ready()
        listed = {one["name"]: one for one in pawl_json(env, "tasks", "list")["items"]}
        assert {name: one["labels"] for name, one in listed.items()} == {
            "default": 10,
            "sentiment": 3,
            "support_zh": 6,
            "topic": 4,
        }
        refused = pawl(env, "import", str(mood), "--task", "modo")
        assert refused.returncode == 1
        assert "no task 'modo'" in refused.stderr
        assert pawl(env, "import", str(own), "--accept", "the gate is not the subject").returncode == 0
        assert pawl(env, "import", str(mood), "--task", "mood", "--create-task").returncode in {0, 3}
        shown = pawl(env, "demo", "remove", "--dry-run")
        assert (shown.returncode, "nothing was changed" in shown.stdout) == (0, True)
        unasked = pawl(env, "demo", "remove")
        assert (unasked.returncode, "Say --yes" in unasked.stderr) == (2, True)
        done = pawl(env, "demo", "remove", "--yes")
        assert done.returncode == 0, done.stderr
        assert "task topic: taken out in version" in done.stdout
        assert "what is left: default (5 labels" in done.stdout
        model = httpx.get(f"{up.url}/v1/model", timeout=30.0).json()
        assert sorted(model["tasks"]["default"]) == sorted({label for _, label in labelled(40)})
        assert set(model["tasks"]) == {"default", "mood"}
        assert "nothing to remove" in pawl(env, "demo", "remove", "--yes").stdout
        assert "there is no task 'modo'" in pawl(env, "tasks", "drop", "modo", "--yes").stderr
        dropped = pawl_json(env, "tasks", "drop", "mood", "--yes", "--reason", "a test")
        assert [(one["state"], one["reason"]) for one in dropped] == [("applied", "a test")]
        gone = pawl(env, "predict", "hello", "--task", "mood")
        assert "'mood' is not known" in gone.stderr
        assert [one["name"] for one in pawl_json(env, "tasks", "list")["items"]] == ["default"]
