"""The search itself, with torch. Ctrl-C ends the search and keeps what it has found."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pawl.classifier.encoders.device import configure_training
from pawl.files import write_atomic
from pawl.processes.priority import stand_back
from pawl.settings import Settings
from worker.consolidation.data.inputs import TrainingStores
from worker.consolidation.data.material import Material
from worker.consolidation.training.callbacks import Callbacks, Metrics
from worker.consolidation.training.schedule import Evaluation
from worker.tune.report import environment, show, verdict
from worker.tune.search import SettingsSearch, TimeUsedUp, search_space
from worker.tune.split import TuneSplit
from worker.tune.trials import TrialRunner, open_trial_runner

FILE = "recommended.env"
_NICENESS = 10  # serving goes first
_PIPE_WIDTH = 160
_REFRESH_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """How many trials to run, and for how many minutes; 0 minutes are no limit."""

    trials: int
    minutes: float


def run(
    runner: asyncio.Runner, stores: TrainingStores, split: TuneSplit, settings: Settings, limits: Limits, notes: Console
) -> int:
    """Runs the search, prints its table and writes the recommended settings; returns the exit code."""
    # into a file or a pipe there is no width to fit, and the table is wide
    out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    stand_back(_NICENESS)
    configure_training(settings.threads)
    trial_runner = runner.run(open_trial_runner(stores, split, settings))
    search = SettingsSearch(search_space(replayable=trial_runner.replayable), settings, settings.seed)
    untouched = trial_runner.without(runner.run(trial_runner.material(settings)), settings)
    _search(runner, trial_runner, search, limits, notes)
    show(out, search, untouched)
    out.print(verdict(search, untouched), markup=False, soft_wrap=True)
    if search.best is None:
        return 1
    path = settings.home_path / FILE
    write_atomic(path, environment(search, search.best, untouched))
    out.print(f"written: {path}", markup=False, soft_wrap=True)
    out.print(f"To use it: set -a; . {path}; set +a; and start Pawl again.", markup=False, soft_wrap=True)
    return 0


def _search(
    runner: asyncio.Runner, trial_runner: TrialRunner, search: SettingsSearch, limits: Limits, notes: Console
) -> None:
    """Runs trials until they, the minutes or the user's patience are used up."""
    deadline = time.monotonic() + 60.0 * limits.minutes if limits.minutes else float("inf")
    stop = _stop_signal()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    material: dict[int, Material] = {}
    with Progress(*columns, console=notes) as bar:
        overall = bar.add_task("trials", total=limits.trials)

        def train(settings: Settings, evaluated: Callable[[Evaluation], None]) -> list[bool]:
            replay = settings.replay_per_class  # of the settings that are searched the only one that changes it
            if replay not in material:
                material.clear()  # embeddings of the whole store: one set of them at a time
                # Between trainings, on the one event loop: the engine's connections belong to it.
                material[replay] = runner.run(trial_runner.material(settings))
            callbacks = _TrainingBar(bar, deadline, stop, evaluated)
            try:
                return trial_runner.train(material[replay], settings, callbacks.all())
            finally:
                callbacks.remove()

        try:
            while len(search.trials) < limits.trials and time.monotonic() < deadline and not stop.is_set():
                trial, best = search.step(train), search.best
                reached = "" if best is None else f", best {best.accuracy:.2f} %"
                bar.update(overall, completed=len(search.trials), description=f"trials{reached}")
                if not notes.is_terminal:  # no bar is drawn there
                    notes.print(f"trial {trial.number}: {trial.state}{reached}", markup=False)
        except (KeyboardInterrupt, TimeUsedUp):
            notes.print("stopped; what was found is kept")


class _TrainingBar:
    """The progress bar of one training, which it ends at the deadline or when the user stops the search."""

    def __init__(
        self, bar: Progress, deadline: float, stop: threading.Event, evaluated: Callable[[Evaluation], None]
    ) -> None:
        self._bar = bar
        self._row = bar.add_task("training", total=None)
        self._deadline = deadline
        self._stop = stop
        self._evaluated = evaluated
        self._shown = 0.0

    def all(self) -> Callbacks:
        """What the training is given."""
        return Callbacks(self._due, self._report, self._note)

    def remove(self) -> None:
        """Takes the bar off the screen."""
        self._bar.remove_task(self._row)

    def _due(self) -> bool:
        now = time.monotonic()
        if self._stop.is_set():
            raise KeyboardInterrupt
        if now > self._deadline:
            raise TimeUsedUp
        if now - self._shown < _REFRESH_SECONDS:
            return False
        self._shown = now
        return True

    def _report(self, step: int, steps: int, _: Metrics) -> None:
        self._bar.update(self._row, completed=step, total=steps)

    def _note(self, evaluation: Evaluation) -> None:
        self._bar.update(self._row, description=f"training, validation {100 * evaluation.accuracy:.1f} %")
        self._evaluated(evaluation)


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
