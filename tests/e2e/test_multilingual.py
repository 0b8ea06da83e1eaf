"""An encoder of many languages through real processes: chosen at `pawl up`, trained, rolled back."""

from __future__ import annotations

from pathlib import Path

from tests.app.commands.processes import Up, environment, pawl, pawl_json
from tests.multilingual_encoder import write_multilingual_encoder

ROWS = [
    (f"{start}{end}", label)
    for label, starts in {"卡": ("我的卡", "更换卡", "my card"), "退款": ("退款", "我的退款", "my refund")}.items()
    for start in starts
    for end in ("还没有到", "在哪里", "失败了", "怎么办", " is late", " failed", "不收", "很慢", " where", "忘记了")
]


def test_a_multilingual_encoder_from_the_import_to_the_roll_back(short_folder: Path, tmp_path: Path) -> None:
    source = write_multilingual_encoder(tmp_path / "encoder")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS), encoding="utf-8")
    env = environment(short_folder / "multilingual", None, PAWL_EPOCHS="1", OMP_NUM_THREADS="1")
    done = pawl(env | {"PAWL_ENCODER": str(source)}, "import", str(rows))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unknown_language" not in done.stdout + done.stderr
    with Up(env, "--no-demo", "--encoder", str(source)) as up:
        assert up.ready().endswith("version 1")
        shown = pawl_json(env, "encoder", "show")
        assert (shown["prefix"], shown["dimension"]) == ("query: ", 64)
        learned = pawl_json(env, "feedback", "--text", "转账失败了", "--label", "转账", "--wait")
        assert learned["state"] == "learned"
        assert pawl_json(env, "predict", "转账失败了")["predictions"][0]["label"] == "转账"
        done = pawl(env, "consolidate", "--wait")
        assert done.returncode == 0, done.stdout + done.stderr
        trained = pawl_json(env, "encoder", "show")
        assert trained["encoder_digest"] != shown["encoder_digest"]
        done = pawl(env, "promote", "1", "--reason", "a test", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
    with Up(env, "--no-demo") as up:
        up.ready()
        assert pawl_json(env, "encoder", "show")["encoder_digest"] == shown["encoder_digest"]
