"""Requests/s and latencies of Pawl, of what could serve the same weights instead, and of the backend without HTTP.

    apt-get install wrk
    python -m benchmarks.serving --make-peers ~/.cache/pawl-peers                # minutes, once
    python -m benchmarks.serving --data ../shared/data --peers ~/.cache/pawl-peers
    python -m benchmarks.serving --data ../shared/data --systems pawl            # Pawl and its ceiling alone
    PAWL_COMPRESSION=int8 python -m benchmarks.serving --data ../shared/data     # the encoder's weights in int8

All-MiniLM-L6-v2 in every system; Pawl runs it on what `PAWL_BACKEND` says (`auto`: what is fastest here), and so do the
peers "with Pawl's backend". Texts of three lengths: Banking77 (~12 tokens), FinancialPhraseBank (~30), AG News (~50).
Pawl has learned a task of each (the peers' head has 77 classes and learned nothing), and what is asked are test texts,
which it has not learned: words answer training texts too easily. Pawl is served with the words' fast answers off, at a
loss of 0.0 and of 0.1 points; the ceiling is the encoder with the semantic head, for every text, in process.

One text in a request, from 1, 16 and 64 clients that wait for their answers (closed loop), and at
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

from benchmarks.harness import (
    Home,
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
from benchmarks.serving.preparation import load_splits, teach, with_loss
from benchmarks.serving.report import goals, report
from benchmarks.serving.systems import KINDS, OTHERS, PAWLS, earlier, make_environment, pawl, peers, versions
from pawl.classifier.encoders.choice import Backends
from pawl.settings import load_settings

SYSTEMS = (*PAWLS, *OTHERS)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--make-peers", type=Path, metavar="DIR", help="install the peers there, and do nothing else")
    options.add_argument("--peers", type=Path, metavar="DIR", help="where they are; without it Pawl is measured alone")
    options.add_argument("--systems", nargs="+", choices=SYSTEMS, help="only these (default: all that can be)")
    options.add_argument("--rounds", type=int, default=3, help="default 3")
    options.add_argument("--seconds", type=float, default=6.0, help="of one load (default 6)")
    options.add_argument("--closed", action="store_true", help="closed loops alone")
    options.add_argument("--before", type=Path, metavar="DIR", help="a checkout of an earlier commit, measured in turn")
    given = options.parse_args(argv)
    if given.make_peers is not None:
        for kind in KINDS:
            notes.print(f"{kind}: {make_environment(kind, given.make_peers.expanduser())}", markup=False)
        return
    if given.data is None:
        options.error("--data: which folder?")
    wrk()
    before, rng = machine(), random.Random(given.seed)
    plan = Plan(load_splits(given.data, rng), given.seconds, open_loop=not given.closed)
    chosen = given.systems or [name for name in SYSTEMS if given.peers or name.startswith("pawl")]
    results: Json = {"backend": "", "rounds": [], "versions": {}}
    with temporary_home() as home, tempfile.TemporaryDirectory(prefix="pawl-bench-") as scratch:
        folder = Path(scratch)
        encoder = teach(home, plan.splits)
        backend = Backends.of(load_settings(home=home.path)).library(encoder, "")
        results["backend"] = backend
        systems = [
            pawl(with_loss(home, folder / f"home-{loss}", plan.splits, loss), name)
            for name, loss in PAWLS.items()
            if name in chosen
        ]
        if given.before is not None:
            then = Home(folder / "home-before", home.settings, given.before.resolve())
            then.path.mkdir()
            teach(then, plan.splits)
            systems.append(earlier(then))
        others = [name for name in chosen if name in OTHERS]
        if others:
            if given.peers is None:
                options.error("--peers: where are they?")
            systems += peers(others, given.peers.expanduser(), encoder, backend)
            kinds = sorted({name.partition("-")[0] for name in others})
            results["versions"] = {kind: versions(kind, given.peers.expanduser()) for kind in kinds}
        results["rounds"] = in_turn(given.rounds, systems, home, plan, folder)
    for name, split in plan.splits.items():
        results.setdefault("lengths", {})[name] = statistics.mean(len(row.text) for row in split.test)
    report(results["rounds"], {system.name: system.title for system in systems}, list(plan.splits))
    results["goals"] = goals(results["rounds"], list(plan.splits))
    save(f"serving_{load_settings().compression}", vars(given), results, before, given.results)


if __name__ == "__main__":
    sys.exit(start(main))
