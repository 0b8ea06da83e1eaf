"""`PAWL_ENCODER=none`: import, predict, correct, restart, roll back, then an encoder instead and none again."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.app.commands.processes import Up, environment, pawl, pawl_json
from tests.e2e.test_loop import PROBES, Client, write_csv
from tests.intents import labelled
from tests.tiny_encoder import write_tiny_encoder

pytestmark = pytest.mark.timeout(600)
_HEAVY = ("torch", "onnxruntime", "openvino", "tokenizers", "scipy")
_MEBIBYTES = 150.0
"""Of the process that serves; 120 with a small version."""


@pytest.fixture(scope="module")
def env(short_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home whose version 1 was imported without an encoder."""
    env = environment(short_folder / "none", None, PAWL_ENCODER="none", PAWL_BACKEND="auto")
    done = pawl(env, "import", str(write_csv(tmp_path_factory.mktemp("rows") / "train.csv", labelled(150))))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "version 1 is live" in done.stdout
    return env


def test_a_correction_is_served_by_words_alone_and_stays_after_a_restart(env: dict[str, str]) -> None:
    text = "a wholly new text about a gift voucher"
    with Up(env, "--no-demo") as up:
        assert up.ready().endswith(" version 1")
        with Client(up.url) as client:
            assert _right(client) >= 0.9
            client.correct(text=text, label="gift")
            [answer] = client.predict([text])["predictions"]
            assert (answer["label"], answer["by"]) == ("gift", "words")
            before, version = client.scores(PROBES), client.live()
            assert client.get("/v1/model")["words"]["default"]["share"] == 1.0
            refused = client.post("/v1/consolidations", {}, 409)
            assert "there is no encoder to fine-tune" in refused["detail"]
        assert _mapped(up.child("app")) == []
        assert up.child("app").memory_info().rss / 2**20 < _MEBIBYTES
    with Up(env, "--no-demo") as up:
        up.ready()
        with Client(up.url) as client:
            assert client.live() == version
            assert client.scores(PROBES) == before
            client.post("/v1/versions/1/promote", {"reason": "a test"})
            assert client.predict([text], min_version=version + 1, wait_ms=30_000)["predictions"][0]["label"] != "gift"


def test_an_encoder_comes_and_goes(env: dict[str, str], tmp_path: Path) -> None:
    tiny = write_tiny_encoder(tmp_path / "tiny")
    shown = pawl(env, "encoder", "show")
    assert "encoder     none" in shown.stdout, shown.stderr
    assert "by words alone" in shown.stdout
    free = {name: value for name, value in env.items() if name != "PAWL_ENCODER"}
    done = pawl(free, "encoder", "set", str(tiny), "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    with_encoder = pawl_json(free, "encoder", "show")
    assert with_encoder["dimension"] > 0
    with Up(free, "--no-demo") as up:
        up.ready()
        with Client(up.url) as client:
            assert _right(client) >= 0.9
            client.post("/v1/versions/1/promote", {"reason": "back to none"})
            client.predict(PROBES, min_version=with_encoder["version"] + 1, wait_ms=30_000)
            assert client.get("/v1/encoder")["pooling"] == "none"
            client.post(f"/v1/versions/{with_encoder['version']}/promote", {"reason": "and again"})
            served = client.predict(PROBES, min_version=with_encoder["version"] + 2, wait_ms=30_000)
            assert {each["by"] for each in served["predictions"]} <= {"words", "meaning", "both"}
            assert client.get("/v1/encoder")["dimension"] == with_encoder["dimension"]
            learned = client.correct(text="another wholly new text", label="gift")
            assert learned["state"] == "learned"
    done = pawl(free, "encoder", "set", "none", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert pawl_json(free, "encoder", "show")["made_with"]["encoder"] == "none"
    told = pawl(env, "doctor").stdout
    assert "there is no encoder to run" in " ".join(told.split())


def _right(client: Client) -> float:
    pairs = labelled(50, seed=7)
    answers = client.predict([text for text, _ in pairs])["predictions"]
    right: list[bool] = [each["label"] == label for each, (_, label) in zip(answers, pairs, strict=True)]
    return sum(right) / len(right)


def _mapped(process: psutil.Process) -> list[str]:
    """Libraries for encoders that a running process has loaded."""
    paths = {mapped.path for mapped in process.memory_maps()}
    return [name for name in _HEAVY if any(f"/{name}/" in path or f"/{name}." in path for path in paths)]
