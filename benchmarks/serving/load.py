"""Requests by wrk, a native load generator, so that the client is not the limit; and what the server spent on them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.harness import BenchmarkFailed, Json

SCRIPT = Path(__file__).with_name("requests.lua")
_RESULT = re.compile(r"^RESULT (\{.*\})$", re.MULTILINE)
_OPEN_CONNECTIONS = 256
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Load:
    """How requests come: `clients` that each wait for their answer (closed loop), or `rate` requests/s (open loop)."""

    clients: int = 0
    rate: float = 0.0

    @property
    def name(self) -> str:
        """For tables and results."""
        return f"{self.clients} clients" if self.clients else f"{self.rate:.0f}/s"


@dataclass(frozen=True, slots=True)
class Found:
    """What one load gave. Latencies in ms; `cpu` in cores, `memory_mib` proportional set size of all its processes."""

    requests: int
    seconds: float
    failed: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu: float
    memory_mib: float

    @property
    def rate(self) -> float:
        """Requests/s."""
        return self.requests / self.seconds

    def json(self) -> Json:
        """For the results."""
        return asdict(self) | {"rate": self.rate}


def wrk() -> str:
    """The program. Raises `BenchmarkFailed` where it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise BenchmarkFailed("wrk is not installed: `apt-get install wrk`")
    return found


def write_lines(path: Path, values: Sequence[Json] | Sequence[str]) -> Path:
    """One JSON value in a line."""
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def run(url: str, bodies: Path, load: Load, seconds: float, server: int) -> Found:
    """Puts a load on `url`; `server` is the process id whose family's CPU time and memory are told.

    Raises `BenchmarkFailed` where wrk cannot run. Requests that fail are counted, not raised.
    """
    connections = load.clients or _OPEN_CONNECTIONS
    pause_ms = 1000.0 * connections / load.rate if load.rate else 0.0
    threads = min(2, connections)
    command = [wrk(), "-t", str(threads), "-c", str(connections), "-d", f"{seconds:.0f}s", "--timeout", "20s"]
    before = _cpu_seconds(server)
    done = subprocess.run(
        [*command, "-s", str(SCRIPT), url, "--", str(bodies), f"{pause_ms:.3f}"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = _RESULT.search(done.stdout)
    if found is None:
        raise BenchmarkFailed(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    told = json.loads(found.group(1))
    spent = _cpu_seconds(server) - before
    return Found(**told, cpu=spent / told["seconds"], memory_mib=_memory(server) / _MIB)


def _cpu_seconds(pid: int) -> float:
    return _total(pid, lambda process: sum(process.cpu_times()[:2]))  # user and system


def _memory(pid: int) -> float:
    return _total(pid, lambda process: process.memory_full_info().pss)


def _total(pid: int, measure: Callable[[psutil.Process], float]) -> float:
    """Over a process and all that descend from it; one that ends meanwhile counts nothing."""
    server, total = psutil.Process(pid), 0.0
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += measure(process)
    return total
