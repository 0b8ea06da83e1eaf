"""`make chaos`: the long forms. Exit status 1 when a promise was broken."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.chaos.scenes import Outcome, full_artefacts, killed_worker
from tests.tiny_encoder import write_tiny_encoder

SCENES: dict[str, tuple[str, Callable[[Path, Path], Outcome]]] = {
    "kills": (
        "the learner killed 20 times in 60 s",
        lambda folder, encoder: killed_worker(folder, encoder, kills=20, seconds=60.0),
    ),
    "full-disk": (
        "the artefact volume full for 60 s during 200 corrections",
        lambda folder, encoder: full_artefacts(folder, encoder, corrections=200, seconds=60.0),
    ),
}
SERVERS = "servers"


def main(names: list[str]) -> int:
    """Runs the scenes of these names, all where none is given. Returns the exit status."""
    known = [*SCENES, SERVERS]
    if unknown := set(names) - set(known):
        print(f"no such scene: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)  # noqa: T201
        return 2
    broken = 0
    if not names or SERVERS in names:  # it prints a table of its own
        broken += subprocess.run([sys.executable, "-m", "tests.chaos.paused_servers"], check=False).returncode != 0
    for name in names or SCENES:
        if name == SERVERS:
            continue
        title, play = SCENES[name]
        print(f"{name}: {title}", flush=True)  # noqa: T201
        # In /tmp: the path of a Unix socket must be short.
        with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp", ignore_cleanup_errors=True) as folder:
            outcome = play(Path(folder), write_tiny_encoder(Path(folder) / "encoder"))
        kept = not outcome.failures and set(outcome.states) == {"learned"}
        broken += not kept
        print(f"  {'kept' if kept else 'BROKEN'}  {outcome.told()}", flush=True)  # noqa: T201
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
