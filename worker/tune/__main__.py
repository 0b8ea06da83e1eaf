"""`python -m worker.tune`: searches settings of the consolidation on the learner's own store. Changes nothing there."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from rich.console import Console

from pawl.artefacts.folders import FolderArtefactStore
from pawl.db.engine import connect
from pawl.db.migrate import check_current
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import PawlError
from pawl.processes.logs import configure_logs
from pawl.settings import Settings, load_settings
from worker.consolidation.data.inputs import TrainingStores
from worker.tune.split import NEEDED, split_store


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the search; returns the exit code. Whether there is enough to search on is said before torch is loaded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=20)
    options.add_argument("--minutes", type=float, default=0.0, help="0: no limit")
    given = options.parse_args(argv)
    notes = Console(stderr=True, highlight=False)
    # SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that connections are closed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = load_settings()
        configure_logs("error")
        with asyncio.Runner() as runner:
            return _tune(runner, settings, given.trials, given.minutes, notes)
    except PawlError as error:
        notes.print("[red]error:[/] ", end="")
        notes.print(str(error), markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _tune(runner: asyncio.Runner, settings: Settings, trials: int, minutes: float, notes: Console) -> int:
    engine = connect(settings.sql_url, settings.learner_server_seconds)
    try:
        runner.run(check_current(engine))
        samples = SqlSampleStore.of(engine, settings)
        stores = TrainingStores(samples, SqlVersionLedger(engine), FolderArtefactStore(settings.artefacts_path))
        split = runner.run(split_store(stores.samples, stores.ledger, settings))
        unseen = len(split.fresh)
        notes.print(f"{unseen} samples that the encoder has not seen (at least {NEEDED} are needed)", markup=False)
        from worker.tune.run import Limits, run  # torch and all that: seconds

        return run(runner, stores, split, settings, Limits(trials, minutes), notes)
    finally:
        runner.run(engine.dispose())


if __name__ == "__main__":
    sys.exit(main())
