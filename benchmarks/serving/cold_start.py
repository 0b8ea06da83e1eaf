"""Cold start and memory of the app: `pawl serve` on a home with a version, until it answers.

    python -m benchmarks.serving.cold_start --data ../shared/data

Each kind of encoder in turn, a new process every time: seconds to `/readyz` and to the first answer, resident memory
then and after every text of a list was asked from 16 clients, and the seconds that `import app.server` takes alone.
The files are in the page cache, as after any start but the machine's first.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil

from app.commands.service.up import free_port
from benchmarks.datasets import read_split
from benchmarks.harness import (
    BenchmarkFailed,
    Home,
    Json,
    goal,
    machine,
    parser,
    save,
    server_process,
    start,
    temporary_home,
)
from benchmarks.serving import tables
from benchmarks.serving.preparation import load_texts, prepare

_KINDS = {
    "none, ONNX Runtime": {"PAWL_COMPRESSION": "none", "PAWL_BACKEND": "onnxruntime"},
    "none, OpenVINO": {"PAWL_COMPRESSION": "none", "PAWL_BACKEND": "openvino"},
    "int8": {"PAWL_COMPRESSION": "int8", "PAWL_BACKEND": "onnxruntime"},
}
_PATIENCE = 60.0
_CLIENTS = 16
_SECONDS, _MEBIBYTES = 4.0, 500.0


def cold_start(home: Home, texts: Sequence[str], log: Path) -> Json:
    """One start. Raises `BenchmarkFailed` where it does not come up."""
    port = free_port("127.0.0.1", 0)
    command = [sys.executable, "-m", "app.cli", "serve"]
    begun = time.perf_counter()
    with server_process(command, home.environment | {"PAWL_PORT": str(port)}, log) as process:
        url = f"http://127.0.0.1:{port}"
        ready = _until_ready(url, process, begun, log)
        httpx.post(f"{url}/v1/predict", json={"text": texts[0]}, timeout=20.0).raise_for_status()
        answered = time.perf_counter() - begun
        memory = _resident(process.pid)
        asyncio.run(_ask_all(url, texts))
        return {
            "ready_s": ready,
            "answered_s": answered,
            "ready_mib": memory,
            "asked_mib": _resident(process.pid),
        }


def _until_ready(url: str, process: subprocess.Popen[bytes], begun: float, log: Path) -> float:
    while process.poll() is None and time.perf_counter() - begun < _PATIENCE:
        try:
            if httpx.get(f"{url}/readyz", timeout=5.0).is_success:
                return time.perf_counter() - begun
        except httpx.TransportError:
            pass
        time.sleep(0.01)
    raise BenchmarkFailed(f"`pawl serve` did not come up:\n{log.read_text('utf-8', errors='replace')[-3000:]}")


async def _ask_all(url: str, texts: Sequence[str]) -> None:
    async with httpx.AsyncClient(timeout=30.0) as client:
        room = asyncio.Semaphore(_CLIENTS)

        async def ask(text: str) -> None:
            async with room:
                (await client.post(f"{url}/v1/predict", json={"text": text})).raise_for_status()

        await asyncio.gather(*(ask(text) for text in texts))


def _resident(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 2**20)


def import_seconds() -> float:
    """How long `import app.server` takes in a new interpreter."""
    code = "import time; t = time.perf_counter(); import app.server; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def report(found: dict[str, list[Json]], imports: Sequence[float]) -> list[Json]:
    """A table, and the goals."""
    tables.cold_start(found).show()
    goals = [goal(f"import app.server: {statistics.median(imports):.2f} s", met=True)]
    for kind, runs in found.items():
        seconds, mebibytes = (statistics.median(one[key] for one in runs) for key in ("answered_s", "asked_mib"))
        text = f"{kind}: answers after {seconds:.2f} s, wanted <= {_SECONDS:.0f}"
        goals.append(goal(text, met=seconds <= _SECONDS))
        text = f"{kind}: {mebibytes:.0f} MiB resident, wanted <= {_MEBIBYTES:.0f}"
        goals.append(goal(text, met=mebibytes <= _MEBIBYTES))
    return goals


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--rounds", type=int, default=5, help="starts of each kind (default 5)")
    given = options.parse_args(argv)
    before, rng = machine(), random.Random(given.seed)
    train, _ = read_split(given.data / "banking77")
    texts = [text for kind in load_texts(given.data, rng).values() for text in kind]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pawl-bench-")))
        homes = {kind: stack.enter_context(temporary_home(**settings)) for kind, settings in _KINDS.items()}
        for home in homes.values():
            prepare(home, train, random.Random(given.seed))
        found: dict[str, list[Json]] = {kind: [] for kind in homes}
        for _ in range(given.rounds):
            for kind, home in homes.items():
                found[kind].append(cold_start(home, texts, scratch / "serve.log"))
        imports = [import_seconds() for _ in range(given.rounds)]
    results: Json = {"import_s": imports, "starts": found}
    results["goals"] = report(found, imports)
    save("serving_cold_start", vars(given), results, before, given.results)


if __name__ == "__main__":
    sys.exit(start(main))
