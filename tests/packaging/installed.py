"""Pawl installed from a wheel, used from a folder that has an `app`, a `worker` and `migrations` of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pawl.settings import PREFIX

_FOREIGN = "raise RuntimeError('the package of the working folder was imported instead of the installed one')\n"


def foreign_project(folder: Path) -> Path:
    """A folder with somebody's own packages, which raise when they are imported."""
    for package in ("app", "worker", "pawl", "migrations"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(_FOREIGN)
        (folder / package / "cli.py").write_text(_FOREIGN)
    return folder


class Installed:
    """The `pawl` of one environment, run in one working folder on one home."""

    def __init__(self, program: Path, folder: Path, home: Path, **settings: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTHON"))}
        self.environment = clean | {"PAWL_HOME": str(home)} | settings
        self.program = program
        self.folder = folder

    def run(self, *arguments: str, seconds: float = 300.0) -> str:
        """Output of one command that must succeed."""
        done = subprocess.run(
            [str(self.program), *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"pawl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    @contextmanager
    def up(self, *arguments: str, seconds: float = 300.0) -> Iterator[str]:
        """`pawl up` for the block; the line it prints when it is ready."""
        process = subprocess.Popen(
            [str(self.program), "up", "--port", "0", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda pipe: lines.put(pipe.readline()), args=(process.stdout,), daemon=True).start()
        try:
            yield lines.get(timeout=seconds).rstrip("\n")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60.0)
            process.stdout.close()


def correct_and_ask_again(pawl: Installed) -> tuple[str, str]:
    """The answer to a text before and after somebody said that it is about vouchers."""
    text = "my gift voucher is not accepted"
    before = pawl.json("predict", text)["predictions"][0]["label"]
    receipt = pawl.json("feedback", "--text", text, "--label", "gift_voucher", "--wait")
    assert receipt["state"] == "learned", receipt
    return before, pawl.json("predict", text)["predictions"][0]["label"]
