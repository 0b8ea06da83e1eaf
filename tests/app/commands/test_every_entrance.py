"""A rule about labels, sizes or states holds at every entrance: over HTTP, in `pawl import`, and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import create_app
from pawl.db.engine import connect
from pawl.db.labels import SqlLabelStore
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.domain.errors import ItemsRefused
from pawl.domain.labels import LabelChangeKind, LabelRequest
from pawl.domain.samples import NewSample
from pawl.settings import Settings
from tests.app.commands.processes import environment, pawl

BAD: list[dict[str, Any]] = [
    {"text": "a retired label", "label": "gone"},
    {"text": " \n\t", "label": "a"},
    {"text": "nothing but what nobody sees", "label": "\u200b \ufeff"},
    {"text": "too long", "label": "l" * 201},
    {"text": "a NUL \0", "label": "a"},
    {"text": "one more of the retired", "label": " gone\u200b"},
]


async def refused_in_python(settings: Settings) -> list[tuple[int, str, str]]:
    """With a label that was retired made first."""
    engine = connect(settings.sql_url)
    try:
        await upgrade(engine)
        labels = SqlLabelStore(engine)
        await labels.request(LabelRequest(LabelChangeKind.ADD, "default", "gone"))
        change = await labels.request(LabelRequest(LabelChangeKind.RETIRE, "default", "gone"))
        await labels.apply(change.id)
        with pytest.raises(ItemsRefused) as caught:
            await SqlSampleStore(engine).accept([NewSample(**row) for row in BAD])
        faults: Any = caught.value.details["faults"]
        return [(fault.index, fault.field, fault.problem) for fault in faults]
    finally:
        await engine.dispose()


async def stored(settings: Settings) -> int:
    engine = connect(settings.sql_url)
    try:
        return (await SqlSampleStore(engine).backlog()).length
    finally:
        await engine.dispose()


async def test_a_rule_about_labels_sizes_or_states_holds_at_every_entrance(tmp_path: Path) -> None:
    env = environment(tmp_path / "home", tmp_path / "encoder")
    settings = Settings(home=Path(env["PAWL_HOME"]), server_seconds=30.0)  # a busy machine is no fault
    expected = await refused_in_python(settings)
    assert [(index, field) for index, field, _ in expected] == [
        (index, "text" if index in {1, 4} else "label") for index in range(len(BAD))
    ]

    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pawl") as client,
    ):
        told = set()
        for item in BAD:
            answer = await client.post("/v1/feedback", json={"items": [{"text": "fine", "label": "a"}, item]})
            assert answer.status_code == 422
            [error] = answer.json()["errors"]
            told.add((BAD.index(item), error["pointer"].removeprefix("#/items/1/"), error["detail"]))
    assert told == set(expected)

    file = tmp_path / "rows.jsonl"
    rows = [{"text": "fine", "label": "a"}, *BAD]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    done = pawl(env, "import", str(file))
    assert done.returncode == 1
    for index, field, problem in expected:
        assert f"line {index + 2}: {field}: {problem}" in done.stderr
    assert await stored(settings) == 0
