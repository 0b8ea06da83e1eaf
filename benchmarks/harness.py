"""What every benchmark shares: a Pawl of its own in a temporary home, a description of the machine, results on disk.

Every number is taken from outside, over HTTP, from real processes started as `pawl up`; they end with the block that
started them, and with this process if it is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.local.supervisor import guarded
from pawl.installed import installed_versions
from pawl.processes.threads import thread_count

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_LIBRARIES = ("pawl-server", "numpy", "onnxruntime", "tokenizers", "torch", "transformers", "fastapi", "uvicorn")
_NOT_PASSED_ON = frozenset({"PAWL_HOME", "PAWL_HOST", "PAWL_PORT", "PAWL_DATABASE_URL", "PAWL_REDIS_URL"})
_READY = re.compile(r"^ready (http://\S+)", re.MULTILINE)
_START_SECONDS = 300.0
_STOP_SECONDS = 20.0

out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
notes = Console(stderr=True, highlight=False)


class BenchmarkFailed(Exception):
    """A benchmark could not be run; the message says why."""


@dataclass(frozen=True, slots=True)
class Home:
    """A home of one's own. Other `PAWL_` settings of the environment apply, then `settings`.

    `folder` is the checkout whose code it is for.
    """

    path: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        inherited = {name: value for name, value in os.environ.items() if name.upper() not in _NOT_PASSED_ON}
        # An installed Pawl starts its processes from where it is installed; this one's are of its own checkout.
        code = {} if self.folder == ROOT else {"PYTHONPATH": str(self.folder)}
        return inherited | {"PAWL_HOME": str(self.path)} | code | dict(self.settings)

    def pawl(self, *arguments: str) -> str:
        """Runs one `pawl` command to its end and returns what it printed. Raises `BenchmarkFailed`."""
        done = subprocess.run(
            guarded([sys.executable, "-m", "app.cli", *arguments]),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkFailed(f"`pawl {' '.join(arguments)}` ended with {done.returncode}:\n{done.stderr[-4000:]}")
        return done.stdout


@contextmanager
def temporary_home(**settings: str) -> Iterator[Home]:
    """An empty home that is removed afterwards; `settings` are environment variables (`PAWL_...`)."""
    with tempfile.TemporaryDirectory(prefix="pawl-bench-", ignore_cleanup_errors=True) as folder:
        yield Home(Path(folder), settings)


@contextmanager
def running(home: Home) -> Iterator[str]:
    """`pawl up --no-demo` on a free port; yields its URL once it is ready. Raises `BenchmarkFailed`."""
    log = home.path / "up.log"
    command = [sys.executable, "-m", "app.cli", "up", "--no-demo", "--port", "0"]
    with server_process(command, home.environment, log) as process:
        yield _ready_url(process, log)


@contextmanager
def server_process(
    command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, its output in `log`; stopped in order, or killed after 20 s, at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            guarded(command),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is for the benchmark, which then stops it in order
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        with suppress(ProcessLookupError):  # LitServe leaves processes behind, which would share the next one's cores
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ready_url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        found = _READY.search(text)
        if found is not None:
            return found.group(1)
        if process.poll() is not None:
            raise BenchmarkFailed(f"`pawl up` ended with {process.returncode}:\n{text[-4000:]}")
        time.sleep(0.05)
    raise BenchmarkFailed(f"`pawl up` was not ready within {_START_SECONDS:.0f} s:\n{text[-4000:]}")


def machine() -> Json:
    """What it ran on, and how busy that was."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        model = found.group(1) if found else model
    return {
        "cpu": model,
        "cores": thread_count(0),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def save(name: str, settings: Mapping[str, Any], results: Json, before: Json, folder: Path = RESULTS) -> Path:
    """Writes `<folder>/<name>.json`: what was run on what, when, how, and what came out. `before`: the machine then."""
    document = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": before | {"load_average_after": machine()["load_average"]},
        "libraries": installed_versions(_LIBRARIES),
        "settings": {key: _shown(value) if isinstance(value, Path) else value for key, value in settings.items()},
        "environment": environment(),
        "results": results,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    notes.print(f"written: {path}", markup=False, soft_wrap=True)
    return path


def _shown(path: Path) -> str:
    """The same on every machine: from the top of the checkout where it is inside, and its last two names elsewhere."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(*path.resolve().parts[-2:]))


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table; the first column to the left, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row))
    out.print(table)


def goal(text: str, *, met: bool) -> Json:
    """Prints whether a goal was met; returns it for the results."""
    out.print(f"{'met   ' if met else 'MISSED'}  {text}", markup=False, soft_wrap=True)
    return {"goal": text, "met": met}


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with what all benchmarks take."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--seed", type=int, default=0, help="of orders and splits (default 0)")
    result.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    return result


def start(main: Callable[[Sequence[str] | None], None]) -> int:
    """Runs a benchmark's `main`: a failure becomes a sentence, a SIGTERM an orderly end. Returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main(None)
    except BenchmarkFailed as error:
        notes.print(f"failed: {error}", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def environment() -> dict[str, str]:
    """The `PAWL_` settings of the environment that a benchmark's processes see."""
    passed = {key: value for key, value in sorted(os.environ.items()) if key.upper().startswith("PAWL_")}
    return {key: value for key, value in passed.items() if key.upper() not in _NOT_PASSED_ON}


def commit() -> str:
    """The commit that is checked out, with `-dirty` where the product's code differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "app", "worker", "pawl", "migrations")
    return (git("rev-parse", "HEAD") or "unknown") + ("-dirty" if dirty else "")
