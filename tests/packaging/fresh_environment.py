"""Builds the wheel and uses it as a stranger would: `python -m tests.packaging.fresh_environment` (`make wheel-check`).

A new virtual environment, every library installed from the index, a working folder with an `app` of its own: start,
predict, correct, ask again. Takes some minutes and a gigabyte of disk.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.packaging.installed import Installed, correct_and_ask_again, foreign_project

ROOT = Path(__file__).parents[2]


def _show(*command: str | Path) -> None:
    sys.stdout.write(f"$ {' '.join(map(str, command))}\n")
    sys.stdout.flush()
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True)


def main() -> None:
    """Prints what it does; ends with a traceback where something does not work."""
    with tempfile.TemporaryDirectory(prefix="pawl-wheel-") as name:
        place = Path(name)
        _show(sys.executable, "-m", "build", "--outdir", place / "dist", ROOT)
        [wheel] = (place / "dist").glob("*.whl")
        _show(sys.executable, "-m", "venv", place / "venv")
        pip = (place / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet")
        _show(*pip, "torch==2.13.0")  # first and alone: asked for by another package, pip may take one with CUDA
        _show(*pip, f"{wheel}[worker]")
        pawl = Installed(place / "venv" / "bin" / "pawl", foreign_project(place / "project"), place / "home")
        _say("pawl --version", pawl.run("--version"))
        with pawl.up() as ready:
            _say("pawl up", ready)
            before, after = correct_and_ask_again(pawl)
            _say("pawl predict, pawl feedback --wait, pawl predict", f"{before} -> {after}")
            _say("pawl status", pawl.run("status"))
        if not ready.endswith(" version 1") or after != "gift_voucher":
            raise SystemExit("the wheel does not work")


def _say(command: str, answer: str) -> None:
    sys.stdout.write(f"$ {command}\n{answer.rstrip()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
