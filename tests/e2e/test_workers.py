"""`pawl serve --workers N`: several processes behind one socket are one service."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import Any

import httpx
import psutil

from pawl.settings import Settings
from tests.polling import command_line, eventually
from tests.processes import PATIENCE, Installer, Process, until_ready

_REQUESTS = re.compile(r'^pawl_predicted_texts_total\{by="(?:\w+)",process="(\d+)"\} (\S+)$', re.MULTILINE)
_WORKERS = 3


async def ask(settings: Settings, method: str, path: str, **given: Any) -> httpx.Response:
    """One request on a connection of its own, which any of the processes may take."""
    async with httpx.AsyncClient(base_url=f"http://{settings.host}:{settings.port}", timeout=60.0) as client:
        return await client.request(method, path, **given)


async def answered(settings: Settings) -> dict[str, int]:
    """Texts each process has answered, as `/metrics` of one of them tells it."""
    page = (await ask(settings, "GET", "/metrics")).text
    texts: Counter[str] = Counter()
    for process, count in _REQUESTS.findall(page):
        texts[process] += int(float(count))
    return texts


def members(app: Process) -> dict[str, int]:
    """Process ids by the number of the member."""
    found = {}
    for process in psutil.Process(app.pid).children():
        line = command_line(process)
        if "--member" in line:
            found[line[line.index("--member") + 1]] = process.pid
    return found


async def started(install: Installer) -> tuple[Process, Settings]:
    """A service of several processes that has a version."""
    installation = install.trained(workers=_WORKERS)
    app = installation.start_app()
    async with installation.client() as client:
        await until_ready(client)
    return app, installation.settings


async def test_several_processes_are_one_service(install: Installer) -> None:
    app, settings = await started(install)

    asked = 0

    async def everyone_answers() -> bool:
        nonlocal asked
        await ask(settings, "POST", "/v1/predict", json={"text": "is anyone there?"})
        asked += 1
        counts = await answered(settings)
        return len(counts) == _WORKERS and min(counts.values()) > 0

    await eventually(everyone_answers, PATIENCE, every=0.01)
    statuses: Counter[int] = Counter()
    for number in range(30):
        answer = (await ask(settings, "POST", "/v1/predict", json={"text": f"where is card {number}?"})).json()
        item = {"prediction_id": answer["predictions"][0]["id"], "label": "card_arrival"}
        statuses[(await ask(settings, "POST", "/v1/feedback", json=item)).status_code] += 1
    assert statuses == {202: 30}, "feedback comes before the process that answered has written the prediction"

    async def all_are_counted() -> bool:
        told = sum(
            (await answered(settings)).values()
        )  # of the processes beside the one that tells, as of a second ago
        assert told <= asked + 30, "nothing is counted twice"
        return told == asked + 30

    await eventually(all_are_counted, PATIENCE, every=0.05)

    last = members(app)
    assert len(last) == _WORKERS
    assert app.stop() == 0
    assert not [pid for pid in last.values() if psutil.pid_exists(pid)]


async def test_a_process_that_dies_is_started_again_while_the_others_answer(install: Installer) -> None:
    app, settings = await started(install)

    async def all_are_ready() -> bool:
        return len(await answered(settings)) == _WORKERS and len(members(app)) == _WORKERS

    await eventually(all_are_ready, PATIENCE, every=0.05)
    first = members(app)
    os.kill(first["2"], signal.SIGKILL)

    async def it_is_back() -> bool:
        answer = await ask(settings, "POST", "/v1/predict", json={"text": "and now?"})
        assert answer.status_code == 200, "the new process takes no request before it has loaded the model"
        return members(app).get("2", first["2"]) != first["2"]

    await eventually(it_is_back, PATIENCE, every=0.01)
    second = members(app)
    assert (second["1"], second["3"]) == (first["1"], first["3"])
    assert app.stop() == 0
