"""The search itself, with torch: a composition root. Ctrl-C ends the search and keeps what it found."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.encoders.device import configure_training
from pawl.db.engine import connect
from pawl.db.migrate import check_current
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.files import write_atomic
from pawl.processes.priority import stand_back
from pawl.settings import Settings
from worker.consolidation.data.inputs import TrainingStores
from worker.consolidation.data.material import Material
from worker.consolidation.training.callbacks import Callbacks
from worker.consolidation.training.schedule import Evaluation
from worker.tune.report import environment, show, verdict
from worker.tune.search import Search, TimeUsedUp, search_space
from worker.tune.trials import Bench, open_bench

FILE = "recommended.env"
_NICENESS = 10  # serving goes first
_PIPE_WIDTH = 160
_REFRESH_SECONDS = 0.5


def run(settings: Settings, trials: int, minutes: float, notes: Console) -> int:
    """Runs the search; returns the exit code."""
    # into a file or a pipe there is no width to fit, and the table is wide
    out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    stand_back(_NICENESS)
    configure_training(settings.threads)
    with asyncio.Runner() as runner:
        return _tune(runner, settings, trials, minutes, out, notes)


def _tune(runner: asyncio.Runner, settings: Settings, trials: int, minutes: float, out: Console, notes: Console) -> int:
    engine = connect(settings.sql_url, settings.learner_server_seconds)
    try:
        runner.run(check_current(engine))
        samples = SqlSampleStore(engine, heldout_fraction=settings.heldout_fraction)
        stores = TrainingStores(samples, SqlVersionLedger(engine), FolderArtefactStore(settings.artefacts_path))
        bench = runner.run(open_bench(stores, settings))
        search = Search(search_space(replayable=bench.replayable), settings, settings.seed)
        untouched = bench.without(bench.material(runner, settings), settings)
        _search(runner, bench, search, trials, minutes, notes)
    finally:
        runner.run(engine.dispose())
    show(out, search, untouched)
    out.print(verdict(search, untouched), markup=False, soft_wrap=True)
    if search.best is None:
        return 1
    path = settings.home_path / FILE
    write_atomic(path, environment(search, search.best, untouched))
    out.print(f"written: {path}", markup=False, soft_wrap=True)
    out.print(f"To use it: set -a; . {path}; set +a; and start Pawl again.", markup=False, soft_wrap=True)
    return 0


def _search(runner: asyncio.Runner, bench: Bench, search: Search, trials: int, minutes: float, notes: Console) -> None:
    """Runs trials until they, the minutes or the user's patience are used up."""
    deadline = time.monotonic() + 60.0 * minutes if minutes else float("inf")
    stop = _stop_signal()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    known: dict[Any, Material] = {}
    with Progress(*columns, console=notes) as bar:
        overall = bar.add_task("trials", total=trials)
        try:
            while len(search.tried) < trials and time.monotonic() < deadline and not stop.is_set():
                search.step(_training(runner, bench, known, bar, deadline, stop))
                last, best = search.tried[-1], search.best
                reached = "" if best is None else f", best {best.accuracy:.2f} %"
                bar.update(overall, completed=len(search.tried), description=f"trials{reached}")
                if not notes.is_terminal:  # no bar is drawn there
                    notes.print(f"trial {last.number}: {last.state}{reached}", markup=False)
        except (KeyboardInterrupt, TimeUsedUp):
            notes.print("stopped; what was found is kept")


def _stop_signal() -> threading.Event:
    """Set by the first Ctrl-C or SIGTERM from now on; the second ends the process.

    An exception out of the handler could be raised where nothing lets it through (a callback of C code, a finaliser),
    and the search would go on.
    """
    stop = threading.Event()

    def handle(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop


def _training(
    runner: asyncio.Runner,
    bench: Bench,
    known: dict[Any, Material],
    bar: Progress,
    deadline: float,
    stop: threading.Event,
) -> Any:
    def train(settings: Settings, evaluated: Any) -> list[bool]:
        replay = settings.replay_per_class
        if replay not in known:
            known.clear()  # embeddings of the whole store: one set of them at a time
            known[replay] = bench.material(runner, settings)
        row: TaskID = bar.add_task("training", total=None)
        shown = 0.0

        def due() -> bool:
            nonlocal shown
            now = time.monotonic()
            if stop.is_set():
                raise KeyboardInterrupt
            if now > deadline:
                raise TimeUsedUp
            if now - shown < _REFRESH_SECONDS:
                return False
            shown = now
            return True

        def report(step: int, steps: int, _: dict[str, float]) -> None:
            bar.update(row, completed=step, total=steps)

        def note(evaluation: Evaluation) -> None:
            bar.update(row, description=f"training, validation {100 * evaluation.accuracy:.1f} %")
            evaluated(evaluation)

        try:
            return bench.train(known[replay], settings, Callbacks(due, report, note))
        finally:
            bar.remove_task(row)

    return train
