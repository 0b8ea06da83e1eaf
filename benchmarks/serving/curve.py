"""Speed against loss: Banking77 served while words may answer alone at a loss of 0, 0.05, ... points.

    PAWL_COMPRESSION=int8 python -m benchmarks.serving.curve --data ../shared/data

One home learns Banking77's training texts; for each loss a copy of it makes one version more, for which the threshold
is chosen. All 3,080 test texts are asked of each: what share words answer alone, and how many answers are right beside
those without fast answers (`off`), by a paired test. Requests/s from 1 and 64 clients on the same texts, in turn.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.datasets import one_of_each, read_split
from benchmarks.harness import Home, Json, machine, parser, save, start, temporary_home
from benchmarks.learning.data import Split
from benchmarks.learning.metrics import from_text
from benchmarks.learning.program import progress
from benchmarks.serving.answering import ask
from benchmarks.serving.load import Load, run, write_lines
from benchmarks.serving.measuring import Plan, measure_ceiling
from benchmarks.serving.preparation import teach, with_loss
from benchmarks.serving.systems import pawl, started
from benchmarks.serving.tables import curve
from pawl.settings import load_settings
from worker.model.exact_tests import McNemar

LOSSES = ("off", "0.0", "0.05", "0.1", "0.2", "0.5", "1.0")
_CLIENTS = (1, 64)
_NAME = "banking77"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--losses", nargs="+", default=LOSSES, help=f"default {' '.join(LOSSES)}; off comes first")
    options.add_argument("--rounds", type=int, default=2, help="default 2")
    options.add_argument("--seconds", type=float, default=4.0, help="of one load (default 4)")
    given = options.parse_args(argv)
    before = machine()
    train, test = read_split(given.data / _NAME)
    split = Split(_NAME, one_of_each(train), random.Random(given.seed).sample(test, len(test)))
    losses = list(dict.fromkeys(("off", *given.losses)))
    with temporary_home() as home, tempfile.TemporaryDirectory(prefix="pawl-bench-") as scratch:
        folder = Path(scratch)
        teach(home, {_NAME: split})
        homes = {loss: with_loss(home, folder / f"home-{loss}", {_NAME: split}, loss) for loss in losses}
        results = measure(homes, split, given.rounds, given.seconds, folder)
    table = curve(results)
    table.show()
    save(f"serving_curve_{load_settings().compression}", vars(given), results, before, given.results)


def measure(homes: Mapping[str, Home], split: Split, rounds: int, seconds: float, folder: Path) -> Json:
    """Every loss in turn, `rounds` times; what is answered is asked in the first round."""
    found: Json = {"asked": len(split.test), "answers": {}, "rounds": []}
    with progress(rounds * (len(homes) + 1), "curve") as advance:
        for number in range(rounds):
            advance(f"round {number + 1}: in-process")
            plan = Plan({split.name: split}, seconds)
            sizes = measure_ceiling(homes["off"], plan, folder)[split.name]
            one: Json = {"ceiling": max(size["texts_per_s"] for size in sizes.values())}
            for loss, home in homes.items():
                advance(f"round {number + 1}: {loss}")
                one[loss] = _serve(home, loss, split, seconds, folder, found["answers"])
            found["rounds"].append(one)
    off = from_text(found["answers"]["off"]["right"], len(split.test))
    for answers in found["answers"].values():
        test = McNemar.of(off, from_text(answers.pop("right"), len(split.test)))
        answers |= {"gained": test.gained, "lost": test.lost, "p": test.p_differs}
    return found


def _serve(home: Home, loss: str, split: Split, seconds: float, folder: Path, answers: Json) -> Json:
    system = pawl(home)
    bodies = write_lines(folder / "bodies", [system.body(row.text) for row in split.test])
    with started(system, folder / f"curve-{loss}.log") as server:
        run(server.url, bodies, Load(clients=16), 1.0, server.pid)  # first allocations, compiled kernels
        loads = [Load(clients=count) for count in _CLIENTS]
        found = {load.name: run(server.url, bodies, load, seconds, server.pid).json() for load in loads}
        if loss not in answers:
            answers[loss] = ask(server.url, split).json()
    return found


if __name__ == "__main__":
    sys.exit(start(main))
