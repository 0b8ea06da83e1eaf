"""`python -m worker`: learns until SIGTERM. `--drain`: learns everything queued, without Redis, then ends.

The learner's composition root: the only place here that names adapters.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog
import torch

from pawl.artefacts.folders import FolderArtefactStore
from pawl.child_processes import module_command
from pawl.classifier.encoders.choice import Backends
from pawl.contradictions import refuse_contradictions
from pawl.db.engine import SystemClock, connect
from pawl.db.labels import SqlLabelStore
from pawl.db.migrate import check_current
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import ArtefactCorrupt, PawlError
from pawl.logs import configure_logs
from pawl.settings import Settings, load_settings
from pawl.streams.sql_alone import open_stream
from pawl.threads import calm_blas
from worker.consolidator import Consolidator
from worker.health.encoder_check import Suitability
from worker.health.priority import stand_back
from worker.health.rehearsal import rehearse
from worker.health.trouble import DeviceLost, Place
from worker.loop import Consumer
from worker.maintenance import Housekeeping
from worker.release.publisher import Publisher
from worker.state.first_encoder import first_state
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.state.snapshots import Snapshots
from worker.updates.encoder_swap import Succession
from worker.updates.head_update import Learning
from worker.updates.label_change import Labelling
from worker.updates.rebuild import Remaking
from worker.updates.retuning import Tuning

log = structlog.get_logger("worker")

_DEVICE_PAUSE = 5.0
_NICENESS = 12  # answers come first where both want a core; a consolidation, its child, stands back further


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Consumer]:
    """Puts a learner together and closes its connections afterwards."""
    calm_blas()
    # A correction is too small to share: a second thread costs more than it saves, and on the core that answers.
    torch.set_num_threads(settings.threads or 1)
    clock = SystemClock()
    engine = connect(settings.sql_url, settings.learner_server_seconds)
    samples = SqlSampleStore(engine, clock, heldout_fraction=settings.heldout_fraction)
    ledger = SqlVersionLedger(engine, clock)
    stream = open_stream(settings, ledger)
    labels = SqlLabelStore(engine, clock)
    artefacts = FolderArtefactStore(settings.artefacts_path, [settings.encoders_path])
    snapshots = Snapshots(settings.snapshots_path, settings.young_class_size)
    publisher = Publisher(ledger, labels, samples, artefacts, stream, keep_versions=settings.keep_versions)
    recovery = Recovery(samples, ledger, artefacts, snapshots, labels, settings)

    backends = Backends.of(settings)
    open_encoder = backends.open

    def empty_state() -> LearnerState:
        return first_state(settings, open_encoder)

    checked = asyncio.Event()

    async def check_schema() -> None:
        await check_current(engine)
        if not checked.is_set():  # at the start: a roll-back to a version of another encoder stops nobody
            with suppress(ArtefactCorrupt):  # what a damaged version was made with is nothing to hold against anybody
                for plan in await refuse_contradictions(settings, ledger, artefacts, samples):
                    log.warning("setting_not_in_effect_yet", setting=plan.setting, problem=str(plan))
        checked.set()

    learning = Learning(samples, ledger, publisher, recovery, settings)
    place = Place(ledger, partial(rehearse, learning, publisher))
    tuning = Tuning(learning, samples, recovery)
    succession = Succession(samples, ledger, publisher, recovery, settings)
    try:
        yield Consumer(
            samples,
            ledger,
            stream,
            learning,
            tuning,
            Labelling(learning, labels, samples, recovery, place, settings),
            Consolidator(samples, ledger, succession, open_encoder, clock, settings),
            Housekeeping(tuning, publisher, snapshots, place, backends.review, settings),
            empty_state,
            Suitability(ledger, artefacts, empty_state, place, settings),
            place,
            Remaking(learning, recovery, ledger, artefacts, empty_state, settings),
            check_schema,
            clock,
            settings,
        )
    finally:
        await stream.close()
        await engine.dispose()


async def work(settings: Settings, *, drain: bool) -> None:
    """Runs a learner until it is told to stop or, with `drain`, until nothing is queued."""
    async with build(settings) as consumer:
        gc.freeze()  # modules stay until the end: looking through them, again and again, took 140 ms each time
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, consumer.stop)
        if drain:
            await consumer.drain(_print_left)
        else:
            await consumer.run()


async def _print_left(left: int) -> None:
    sys.stdout.write(json.dumps({"queued": left}) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--drain", action="store_true", help="learn everything that is queued, then end")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        stand_back(_NICENESS)
        asyncio.run(work(settings, drain=arguments.drain))
    except DeviceLost:  # said already; only a new process gets the GPU back, and not everybody has a supervisor
        time.sleep(_DEVICE_PAUSE)
        os.execv(sys.executable, module_command("worker", *sys.argv[1:]))  # noqa: S606 - itself, no shell
    except PawlError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is closed; the interpreter would take seconds more to take its libraries apart
