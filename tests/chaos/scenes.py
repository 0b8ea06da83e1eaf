"""What is done to a running Pawl, and what came of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.app.commands.processes import Up, environment, eventually
from tests.intents import labelled

_PATIENCE = 300.0
_GATE = {"PAWL_QUARANTINE_WINDOW": "0", "PAWL_KEEP_VERSIONS": "5"}


@dataclass(slots=True)
class Outcome:
    """What was seen: predictions answered and failed, states of all feedback that got its 202."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    seconds: float = 0.0
    problems: set[str] = field(default_factory=set)
    means: str = ""

    @property
    def dead(self) -> int:
        """Labels that were given up."""
        return self.states.get("dead", 0)

    def told(self) -> str:
        """One line for people."""
        means = f", by {self.means}" if self.means else ""
        return (
            f"{self.seconds:.0f} s{means}: {self.kills} kills, {self.answered} predictions answered, "
            f"{len(self.failures)} failed; feedback accepted {len(self.accepted)}, now {self.states}, "
            f"{self.dead} dead; learner said: {sorted(self.problems) or 'nothing'}"
        )


class Traffic:
    """One client that predicts without a pause, and counts."""

    def __init__(self, url: str, outcome: Outcome) -> None:
        self._url, self._outcome = url, outcome
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30.0)

    def _run(self) -> None:
        texts = [text for text, _ in labelled(50, seed=3)]
        with httpx.Client(base_url=self._url, timeout=30.0) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/predict", json={"text": texts[self._outcome.answered % len(texts)]})
                    if not answer.is_success:
                        self._outcome.failures.append(answer.text)
                except httpx.HTTPError as error:
                    self._outcome.failures.append(repr(error))
                self._outcome.answered += 1
                self._stop.wait(0.02)


def killed_worker(folder: Path, encoder: Path, kills: int, seconds: float) -> Outcome:
    """The learner is killed again and again while texts are answered and corrected."""
    outcome = Outcome()
    with _up(folder, encoder) as (up, client), Traffic(up.url, outcome):
        fresh = iter(labelled(10_000, seed=11))
        began = time.monotonic()
        while outcome.kills < kills:
            _correct(client, [next(fresh) for _ in range(5)], outcome)
            up.child("worker").send_signal(signal.SIGKILL)
            outcome.kills += 1
            time.sleep(max(0.0, began + outcome.kills * seconds / kills - time.monotonic()))  # the pace of the kills
        outcome.seconds = time.monotonic() - began
        _settle(client, outcome)
    return outcome


def full_artefacts(folder: Path, encoder: Path, corrections: int, seconds: float) -> Outcome:
    """No version can be written for a while, in which corrections come; then there is room again."""
    outcome = Outcome()
    with _volume(folder / "home" / "artefacts") as volume, _up(folder, encoder) as (up, client):
        outcome.means = "a small tmpfs" if volume else "RLIMIT_FSIZE"
        fresh = iter(labelled(10_000, seed=12))
        began = time.monotonic()
        with Traffic(up.url, outcome), _full(volume, up):
            for number in range(corrections):
                _correct(client, [next(fresh)], outcome)
                _listen(client, outcome)
                time.sleep(max(0.0, began + (number + 1) * seconds / corrections - time.monotonic()))
            outcome.seconds = time.monotonic() - began
            left = client.get("/v1/model").json()["queue"]
            assert left is None or left["length"] > 0, "nothing was in the way"
        _settle(client, outcome)
    return outcome


@contextmanager
def _up(folder: Path, encoder: Path) -> Iterator[tuple[Up, httpx.Client]]:
    env = environment(folder / "home", encoder, **_GATE)
    with Up(env) as up:
        up.ready(_PATIENCE)
        with httpx.Client(base_url=up.url, timeout=60.0) as client:
            yield up, client


@contextmanager
def _volume(folder: Path) -> Iterator[Path | None]:
    """A file system of its own for the artefacts, where one may be mounted."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def _full(volume: Path | None, up: Up) -> Iterator[None]:
    if volume is None:
        worker = up.child("worker").pid
        soft, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        try:
            yield
        finally:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (soft, hard))
        return
    filler = volume / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            os.fsync(file.fileno())
    try:
        yield
    finally:
        filler.unlink()


def _correct(client: httpx.Client, pairs: list[tuple[str, str]], outcome: Outcome) -> None:
    """Sends labels to a task of their own, so that demo texts do not contradict them."""
    items = [{"text": text, "label": label, "task": "chaos", "create_task": True} for text, label in pairs]
    answer = client.post("/v1/feedback", json={"items": items})
    assert answer.status_code == 202, answer.text
    outcome.accepted += [item["id"] for item in answer.json()["items"]]


def _listen(client: httpx.Client, outcome: Outcome) -> None:
    learner: dict[str, Any] = client.get("/v1/model").json()["learner"] or {}
    if problem := learner.get("problem"):
        outcome.problems.add(str(problem))


def _settle(client: httpx.Client, outcome: Outcome) -> None:
    """Waits until nothing is queued, and asks what became of each label."""

    def nothing_queued() -> bool:
        queue = client.get("/v1/model").json()["queue"]
        return queue is not None and queue["length"] == 0

    eventually(nothing_queued, "everything is learned", _PATIENCE)
    for sample_id in dict.fromkeys(outcome.accepted):
        state = client.get(f"/v1/feedback/{sample_id}").json()["state"]
        outcome.states[state] = outcome.states.get(state, 0) + 1
