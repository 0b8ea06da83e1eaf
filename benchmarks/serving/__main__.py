"""Requests/s and latencies of Pawl, of what could serve the same weights instead, and of the backend without HTTP.

    apt-get install wrk
    python -m benchmarks.serving --make-peers ~/.cache/pawl-peers                # minutes, once
    python -m benchmarks.serving --data ../shared/data --peers ~/.cache/pawl-peers
    python -m benchmarks.serving --data ../shared/data --systems pawl            # Pawl and its ceiling alone
    PAWL_COMPRESSION=int8 python -m benchmarks.serving --data ../shared/data     # the encoder's weights in int8

All-MiniLM-L6-v2 and 77 classes, in every system; Pawl runs it on what `PAWL_BACKEND` says (`auto`: what is fastest
here), and so do the peers "with Pawl's backend". Texts of three lengths: Banking77 (~12 tokens), FinancialPhraseBank
(~30), AG News (~50). One text in a request, from 1, 16 and 64 clients that wait for their answers (closed loop), and at
50 and 80 % of the best of these rates from 256 clients that think in between (open loop). Systems take turns: each is
started, measured and stopped once a round, and what is compared is of one round; the tables show medians over rounds.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.datasets import read_split
from benchmarks.harness import (
    Json,
    machine,
    notes,
    parser,
    save,
    start,
    temporary_home,
)
from benchmarks.serving.load import wrk
from benchmarks.serving.measuring import Plan, in_turn
from benchmarks.serving.preparation import load_texts, prepare
from benchmarks.serving.report import goals, report
from benchmarks.serving.systems import KINDS, TITLES, make_environment, pawl, peers, versions
from pawl.classifier.encoders.choice import Backends
from pawl.settings import load_settings

SYSTEMS = tuple(TITLES)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--make-peers", type=Path, metavar="DIR", help="install the peers there, and do nothing else")
    options.add_argument("--peers", type=Path, metavar="DIR", help="where they are; without it Pawl is measured alone")
    options.add_argument("--systems", nargs="+", choices=SYSTEMS, help="only these (default: all that can be)")
    options.add_argument("--rounds", type=int, default=3, help="default 3")
    options.add_argument("--seconds", type=float, default=6.0, help="of one load (default 6)")
    given = options.parse_args(argv)
    if given.make_peers is not None:
        for kind in KINDS:
            notes.print(f"{kind}: {make_environment(kind, given.make_peers.expanduser())}", markup=False)
        return
    if given.data is None:
        options.error("--data: which folder?")
    wrk()
    before, rng = machine(), random.Random(given.seed)
    plan = Plan(load_texts(given.data, rng), given.seconds)
    chosen = given.systems or (SYSTEMS if given.peers else SYSTEMS[:1])
    results: Json = {"backend": "", "rounds": [], "versions": {}}
    with temporary_home() as home, tempfile.TemporaryDirectory(prefix="pawl-bench-") as scratch:
        folder = Path(scratch)
        encoder = prepare(home, read_split(given.data / "banking77")[0], rng)
        backend = Backends.of(load_settings(home=home.path)).library(encoder, "")
        results["backend"] = backend
        systems = [pawl(home)] if "pawl" in chosen else []
        others = [name for name in chosen if name != "pawl"]
        if others:
            if given.peers is None:
                options.error("--peers: where are they?")
            systems += peers(others, given.peers.expanduser(), encoder, backend)
            kinds = sorted({name.partition("-")[0] for name in others})
            results["versions"] = {kind: versions(kind, given.peers.expanduser()) for kind in kinds}
        results["rounds"] = in_turn(given.rounds, systems, home, plan, folder)
    results["lengths"] = {name: statistics.mean(len(text) for text in texts) for name, texts in plan.texts.items()}
    report(results["rounds"], {system.name: system.title for system in systems}, list(plan.texts))
    results["goals"] = goals(results["rounds"], list(plan.texts))
    save(f"serving_{load_settings().compression}", vars(given), results, before, given.results)


if __name__ == "__main__":
    sys.exit(start(main))
