"""`pawl` as its users run it: real processes, a home of their own, the tiny encoder."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from tests.polling import command_line
from tests.tiny_encoder import exported_home

ROOT = Path(__file__).parents[3]
T = TypeVar("T")


def environment(home: Path, encoder: Path | None, **more: str) -> dict[str, str]:
    """The settings of a quick, small Pawl; nothing of the caller's own PAWL_ settings.

    What a random encoder knows is no measure of anything, so the gate is opened: these tests are about processes.
    A home that is new gets the export of the tiny encoder, which would cost every test two seconds of CPU time.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PAWL_")}
    small = {"PAWL_HOME": str(home), "PAWL_RANDOM_FEATURES": "64", "PAWL_THREADS": "1", "PAWL_MAX_TOKENS": "64"}
    small["PAWL_BACKEND"] = "onnxruntime"
    small["PAWL_SERVER_SECONDS"] = "30"  # a busy machine is no fault
    small |= {f"PAWL_GATE_MAX_{limit}": "1" for limit in ("DROP", "CLASS_DROP", "ECE_RISE")}
    if encoder is not None:
        small["PAWL_ENCODER"] = str(encoder)
        if not home.exists():
            home.mkdir(mode=0o700, parents=True)
            shutil.copytree(exported_home(max_tokens=64) / "encoders", home / "encoders")
    return clean | small | more


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", *arguments]


def pawl(
    env: dict[str, str], *arguments: str, seconds: float = 120.0, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end."""
    return subprocess.run(
        command(*arguments), env=env, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
    )


def pawl_json(env: dict[str, str], *arguments: str) -> Any:
    """The JSON that a command with --json prints."""
    done = pawl(env, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def eventually(check: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """Polls until the check gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"this never happened: {what}"
        time.sleep(0.05)
    return found


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that works for this home, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            # Redis writes its title over its environment; the title names its socket.
            named = any(str(home) in part for part in process.cmdline())
            works_here = named or process.environ().get("PAWL_HOME") == str(home)
            if works_here and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


class Up:
    """A running `pawl up`. As a context manager it is stopped, whatever happened, and nothing may be left."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self.env = env
        self.home = Path(env["PAWL_HOME"])
        self.errors = self.home.with_name(self.home.name + ".stderr")
        self.errors.parent.mkdir(parents=True, exist_ok=True)
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command("up", "--port", "0", *arguments),
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def ready(self, seconds: float = 120.0) -> str:
        """The one line it prints."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            line = f"not ready after {seconds:.0f} s; "
            line += "".join(log.read_text()[-2000:] for log in sorted(self.home.glob("logs/*.log")))
        assert line.startswith("ready http://127.0.0.1:"), line + self.errors.read_text()
        return line

    @property
    def url(self) -> str:
        return str(json.loads((self.home / "run.json").read_text())["url"])

    def child(self, name: str) -> psutil.Process:
        """The app, the worker or redis, once it has become that."""
        marks = {"app": ["app.cli", "serve"], "worker": ["-m", "worker"], "redis": ["unixsocket:"]}

        def find() -> psutil.Process | None:
            for process in psutil.Process(self.process.pid).children():
                line = command_line(process)
                named = all(any(mark in part for part in line) for mark in marks[name])
                if named and not any(part.endswith("guard.py") for part in line):
                    return process
            return None

        return eventually(find, f"{name} runs under {self.process.pid}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal to the supervisor alone; its exit status."""
        self.process.send_signal(how)
        return self.process.wait(30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        left = processes_of(self.home)
        for process in left:
            process.kill()
        assert not left, f"processes were left behind: {left}"
