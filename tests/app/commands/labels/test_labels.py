"""`pawl labels` against a running `pawl up`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.app.commands.processes import Up, environment, pawl, pawl_json
from tests.intents import labelled
from tests.tiny_encoder import write_tiny_encoder


def test_labels_are_listed_added_renamed_merged_and_retired(tmp_path: Path, short_folder: Path) -> None:
    env = environment(short_folder / "labels", write_tiny_encoder(tmp_path / "encoder"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in labelled(40)))
    done = pawl(env, "import", str(rows))
    assert done.returncode == 0, done.stderr
    with Up(env, "--no-demo") as up:
        up.ready()
        assert pawl(env, "labels", "add", "new one").stdout == "new one can be used in task default\n"
        done = pawl(env, "labels", "rename", "card", "bank card", "--reason", "clearer", "--wait")
        assert done.stdout.startswith("card is called bank card in version "), done.stderr
        merged = pawl_json(env, "labels", "merge", "flight", "profit", "--wait")
        assert (merged["state"], merged["target"]) == ("applied", "profit")
        done = pawl(env, "labels", "retire", "password", "--wait")
        assert done.stdout.startswith("password is retired in version "), done.stderr
        listed = {one["name"]: one for one in pawl_json(env, "labels", "list")["items"]}
        assert {name: one["state"] for name, one in listed.items()} == {
            "bank card": "active",
            "card": "renamed",
            "flight": "merged",
            "new one": "active",
            "password": "retired",
            "profit": "active",
            "transfer": "active",
        }
        assert listed["profit"]["samples"]["learned"] == 16
        shown = pawl(env, "labels", "list").stdout
        assert "renamed, now bank card" in shown
        done = pawl(env, "labels", "retire", "password")
        assert done.returncode == 1
        assert "404 Not Found: There is no label 'password'" in done.stderr
        done = pawl(env, "feedback", "--text", "x", "--label", "password")
        assert "was retired" in done.stderr
