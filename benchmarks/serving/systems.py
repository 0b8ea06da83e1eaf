"""What is measured: Pawl, and the ways its users would otherwise serve the same weights. Each is a real process.

Peers run in virtual environments of their own under `--peers`, made once (`make_environment`); their programs are in
`peers/`. Those called `... with Pawl's backend` embed with Pawl's own encoder instead of torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.commands.service.up import free_port
from benchmarks.harness import ROOT, BenchmarkFailed, Home, Json, server_process
from pawl.domain.samples import DEFAULT_TASK

_PREDICT = "/v1/predict"
PEERS = Path(__file__).with_name("peers")
KINDS = {"pipeline": "FastAPI + pipeline", "litserve": "LitServe", "bentoml": "BentoML", "ray": "Ray Serve"}
DEFAULT_LOSS = "0.0"
PAWLS = {"pawl_off": "off", "pawl": DEFAULT_LOSS, "pawl_0.1": "0.1"}
"""Pawl with what words may cost, in points (`PAWL_FAST_ANSWERS_LOSS`), by name."""
OTHERS = KINDS | {f"{kind}-pawl": f"{title} with Pawl's backend" for kind, title in KINDS.items() if kind != "pipeline"}
"""The peers, by name."""
TITLES = (
    {name: "Pawl" if loss == DEFAULT_LOSS else f"Pawl, PAWL_FAST_ANSWERS_LOSS={loss}" for name, loss in PAWLS.items()}
    | {"before": "Pawl, an earlier commit"}
    | OTHERS
)
"""What can be measured, by name, in the order of tables."""
LIBRARIES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}
"""What can run Pawl's encoder, by the value of `PAWL_BACKEND`."""
_START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class System:
    """A server. `command` has `{port}` where its port goes; `path` answers `body` of a text.

    `has_tasks`: it is told which task a text is of, and says what it answered by. `folder` is where it runs.
    """

    name: str
    title: str
    command: Sequence[str]
    environment: Mapping[str, str]
    path: str
    nested: bool = False
    has_tasks: bool = False
    folder: Path = ROOT

    def body(self, text: str, task: str = DEFAULT_TASK) -> Json:
        """The JSON of a request for one text."""
        if task != DEFAULT_TASK and self.path == _PREDICT:
            return {"text": text, "task": task}
        return {"one": {"text": text}} if self.nested else {"text": text}


@dataclass(frozen=True, slots=True)
class Started:
    """A server that answers: where, its process, and how long it took to its first answer."""

    url: str
    pid: int
    seconds: float


def pawl(home: Home, name: str = "pawl") -> System:
    """`pawl up` on a home that has a version: app, learner and Redis, as a user runs it."""
    command = [sys.executable, "-m", "app.cli", "up", "--no-demo", "--port", "{port}"]
    return System(name, TITLES[name], command, home.environment, _PREDICT, has_tasks=True)


def earlier(home: Home) -> System:
    """`pawl up` of an earlier commit, on a home that this commit has taught (`Home.folder`)."""
    command = [sys.executable, "-m", "app.cli", "up", "--no-demo", "--port", "{port}"]
    return System("before", TITLES["before"], command, home.environment, _PREDICT, folder=home.folder)


def peers(names: Sequence[str], environments: Path, encoder: Path, backend: str) -> list[System]:
    """The peers with these names (`pipeline`, `litserve`, `bentoml`, `ray`; `-pawl` behind it: with Pawl's `backend`).

    Raises `BenchmarkFailed` where an environment was not made.
    """
    found = []
    for name in names:
        kind, _, own = name.partition("-")
        python = environments / kind / "bin" / "python"
        if not python.is_file():
            raise BenchmarkFailed(f"there is no {python}: `python -m benchmarks.serving --make-peers {environments}`")
        settings = {"PEER_ENCODER": str(encoder), "PEER_BACKEND": backend if own else "torch", "PYTHONPATH": str(ROOT)}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PAWL_")}
        command = [str(python), str(PEERS / f"{kind}_server.py"), "{port}"]
        found.append(System(name, TITLES[name], command, inherited | settings, "/predict", nested=kind == "bentoml"))
    return found


def make_environment(kind: str, environments: Path) -> Json:
    """A virtual environment with a peer and what it needs; torch first, its CPU build. Returns the versions.

    Raises `BenchmarkFailed` where pip does.
    """
    folder = environments / kind
    python = folder / "bin" / "python"
    steps = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "torch==2.13.0"],
        [str(python), "-m", "pip", "install", "--quiet", "-r", str(PEERS / f"{kind}.txt")],
    ]
    for step in steps[1:] if python.is_file() else steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkFailed(f"`{' '.join(step)}` ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return versions(kind, environments)


def versions(kind: str, environments: Path) -> Json:
    """The versions of what matters in a peer's environment."""
    python = environments / kind / "bin" / "python"
    done = subprocess.run([str(python), "-m", "pip", "freeze"], capture_output=True, text=True, check=False)
    pairs = (line.partition("==") for line in done.stdout.splitlines())
    wanted = {"torch", "transformers", "tokenizers", "onnxruntime", "openvino"}
    wanted |= {"fastapi", "uvicorn", "litserve", "bentoml", "ray"}
    return {name: version for name, _, version in pairs if name in wanted}


@contextmanager
def started(system: System, log: Path) -> Iterator[Started]:
    """Starts a system on a free port and waits for its first answer. Raises `BenchmarkFailed`."""
    port = free_port("127.0.0.1", 0)
    begun = time.perf_counter()
    command = [part.format(port=port) for part in system.command]
    with server_process(command, system.environment, log, system.folder) as process:
        url = f"http://127.0.0.1:{port}{system.path}"
        _wait_for_answer(process, url, system, log)
        yield Started(url, process.pid, time.perf_counter() - begun)


def _wait_for_answer(process: subprocess.Popen[bytes], url: str, system: System, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    problem = "nothing answered"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            response = httpx.post(url, json=system.body("is it there?"), timeout=20.0)
        except httpx.TransportError as error:
            problem = str(error)
        else:
            if response.is_success:
                return
            problem = f"{response.status_code} {response.text[:300]}"
        time.sleep(0.05)
    tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
    raise BenchmarkFailed(f"{system.title} did not come up ({problem}):\n{tail}")
