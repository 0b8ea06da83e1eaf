"""An import that the gate refuses in part, and its forced promotion, as their owner sees them: app, learner, CLI."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from pawl.domain.samples import NewSample, Origin, SampleState
from pawl.domain.versions import VersionState
from tests.banking import KNOWN, NEW, rows, texts
from tests.intents import Labelled, items
from tests.polling import eventually
from tests.processes import PATIENCE, Installation, Installer, until_ready, until_settled


async def pawl(home: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command of the CLI, run to its end."""
    command = [sys.executable, "-m", "app.cli", *arguments]
    run = subprocess.run
    return await asyncio.to_thread(
        run, command, env=home.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def written(path: Path, pairs: list[Labelled]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *pairs])
    return str(path)


async def test_a_refused_import_is_told_by_class_and_forced_exactly(install: Installer, tmp_path: Path) -> None:
    home = install.empty(random_features=512)
    known = rows(list(KNOWN), 33)
    batch = [
        *rows(list(NEW), 12, seed=5),
        *((text, "refund") for text in islice(texts("refund_status", seed=8), 30)),
        *((text, "exchange_rate") for text in islice(texts("card_blocked", seed=8), 90)),
    ]
    async with home.stores() as stores:
        await stores.samples.accept([NewSample(text, label, origin=Origin.IMPORT) for text, label in known])
        home.start_app()
        home.start_worker()
        async with home.client() as client:
            await eventually(stores.ledger.live, PATIENCE)
            await until_ready(client)

            done = await pawl(home, "import", written(tmp_path / "new.csv", batch))
            assert done.returncode == 3, done.stdout + done.stderr
            said = done.stdout + done.stderr
            assert "harms: class 'refund_status' falls from" in said
            assert "harms: class 'card_blocked' falls from" in said
            [refused] = [v for v in await stores.ledger.page(None, 100) if v.state is VersionState.REFUSED]
            assert refused.samples_new == len(batch)
            shown = await pawl(home, "versions", str(refused.number))
            assert "takes" in shown.stdout
            assert "the same thing? `pawl labels merge`" in shown.stdout
            counts = await stores.samples.label_counts("default")
            assert {label: counts[label] for label in NEW} == dict.fromkeys(NEW, 12)
            assert "refund" not in counts
            assert counts["exchange_rate"] < 33 + 50  # of the 90 more than 40 do harm

            [later] = (await client.post("/v1/feedback", json=items(rows(["tax_form"], 1, seed=9)))).json()["items"]
            assert (await until_settled(client, later["id"]))["state"] == "learned"
            seen = await pawl(home, "promote", str(refused.number), "--dry-run")
            assert seen.returncode == 0, seen.stderr
            assert f"promoting version {refused.number} (forced)" in seen.stdout
            assert "    default: refund 30" in seen.stdout
            assert "takes away: 1 labels (1 queued)" in seen.stdout
            unsaid = await pawl(home, "promote", str(refused.number))
            assert (unsaid.returncode, "--reason" in unsaid.stderr) == (2, True)
            before: dict[str, Any] = (await client.get("/v1/model")).json()
            assert "refund" not in before["tasks"]["default"]

            command = ("promote", str(refused.number), "--reason", "they are right", "--json")
            made = json.loads((await pawl(home, *command)).stdout)
            assert (made["trigger"], made["effect"]["brings_back"]["classes"]["default"]["refund"]) == ("forced", 30)
            settled = await until_settled(client, later["id"])
            assert settled["state"] == "learned"
            assert settled["learned_in_version"] > made["number"]
            counts = await stores.samples.label_counts("default")
            assert (counts["refund"], counts["exchange_rate"], counts["tax_form"]) == (30, 123, 34)
            body = {"text": batch[-1][0], "min_version": settled["learned_in_version"], "wait_ms": 30_000}
            answer = (await client.post("/v1/predict", json=body)).json()
            assert answer["predictions"][0]["label"] == "exchange_rate"
            learned = await stores.learned()
            assert {(one.text, one.label) for one in learned} >= {*known, *batch}
            assert {one.state for one in learned} == {SampleState.LEARNED}
