"""A home may have any name: URLs are built of their parts, never pasted together."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import unquote, urlparse

import httpx
import pytest
from sqlalchemy import make_url

from pawl.settings import Settings
from tests.app.commands.processes import Up, environment, eventually, pawl_json

ODD = "a b?c*[d]#d%41&e=f;g+h'i\"j\\k@l:m 卡片 ü"


def test_urls_are_built_not_pasted(tmp_path: Path) -> None:
    """Whatever is read from the URL is the path that was meant."""
    settings = Settings(home=tmp_path / ODD)
    assert make_url(settings.sql_url).database == str(settings.home_path / "pawl.db")
    assert make_url(settings.sql_url).query == {}
    assert Settings(home=Path("/" + "\u5361" * 40)).redis_socket.parent == Path(tempfile.gettempdir()), "bytes count"
    assert unquote(urlparse(settings.stream_url).path) == str(settings.redis_socket)


@pytest.mark.timeout(300)
def test_pawl_up_on_a_home_of_any_name(short_folder: Path, tiny_encoder: Path) -> None:
    home, before = short_folder / ODD, {path.name for path in short_folder.iterdir()}
    with Up(environment(home, tiny_encoder), "--no-demo") as running:
        running.ready()
        items = [{"text": f"{label} card {n}", "label": label} for n in range(5) for label in ("credit", "debit")]
        assert httpx.post(f"{running.url}/v1/feedback", json={"items": items}, timeout=60.0).is_success
        eventually(lambda: httpx.get(f"{running.url}/readyz").json().get("version"), "a first version")
        found = {finding["part"]: finding for finding in pawl_json(running.env, "doctor")}
        assert {part for part, one in found.items() if one["outcome"] == "fail"} == set()
        assert str(home) in found["database"]["detail"]
    assert (home / "pawl.db").is_file()
    assert (home / "redis" / "appendonlydir").exists()
    made = {path.name for path in short_folder.iterdir()} - before
    assert made == {ODD, ODD + ".stderr"}, "and nothing beside it"
