"""`up`, `work` and `import` refuse an encoder that cannot be used and say why; `status` and `doctor` say it too."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.app.commands.processes import command, environment, eventually, pawl
from tests.pawl.classifier.unusable import nan
from tests.processes import Process, free_port

_SENTENCE = "cannot be used: the embedding of a text of 2 tokens is not a number"


@pytest.fixture
def env(short_folder: Path, tmp_path: Path) -> dict[str, str]:
    nan(tmp_path / "chosen")
    port = str(free_port())
    return environment(tmp_path / "home", tmp_path / "chosen", PAWL_PORT=port, PAWL_REDIS_URL="none")


def _rows(folder: Path) -> str:
    rows = [f"my card number {n} is lost,card" for n in range(20)] + [
        f"where is payment {n},payment" for n in range(20)
    ]
    (folder / "rows.csv").write_text("text,label\n" + "\n".join(rows))
    return str(folder / "rows.csv")


def test_up_is_refused_before_it_says_ready(env: dict[str, str]) -> None:
    done = pawl(env, "up", "--no-demo")
    assert done.returncode == 1
    assert "ready" not in done.stdout
    assert f"The encoder at {env['PAWL_ENCODER']} {_SENTENCE}" in " ".join(done.stderr.split())


def test_an_import_ends_with_the_sentence(env: dict[str, str], tmp_path: Path) -> None:
    done = pawl(env, "import", _rows(tmp_path))
    assert done.returncode == 1
    assert f"The encoder at {env['PAWL_ENCODER']} {_SENTENCE}" in " ".join(done.stderr.split())


def test_work_ends_and_the_service_doctor_and_status_say_why(env: dict[str, str], tmp_path: Path) -> None:
    done = pawl(env, "work")
    assert done.returncode == 2
    assert f"The encoder at {env['PAWL_ENCODER']} {_SENTENCE}" in " ".join(done.stderr.split())
    examined = pawl(env, "doctor", "--json")
    assert examined.returncode == 1
    assert _SENTENCE in examined.stdout
    service = Process(command("serve"), env, tmp_path / "serve.log")
    try:
        url = f"http://127.0.0.1:{env['PAWL_PORT']}"
        eventually(lambda: _model(url), "the service answers")
        assert _SENTENCE in _model(url)["learner"]["details"]["problem"]
        status = pawl(env, "status", "--url", url)
        assert _SENTENCE in " ".join(status.stdout.split())
    finally:
        service.kill()


def _model(url: str) -> dict[str, dict[str, dict[str, str]]]:
    try:
        answer = httpx.get(f"{url}/v1/model")
    except httpx.HTTPError:
        return {}
    return dict(answer.json()) if answer.is_success and answer.json()["learner"] else {}
