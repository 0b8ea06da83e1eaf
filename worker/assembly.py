"""Builds the learner, once, for the process, the tests and the benchmarks.

The only module of the learner that names adapters (databases, streams, folders, encoder backends).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog
import torch
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.choice.comparison import Comparison
from pawl.clock import SystemClock
from pawl.db.engine import connect
from pawl.db.labels import SqlLabelStore
from pawl.db.migrate import check_current
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Encoder
from pawl.processes.threads import calm_blas
from pawl.settings import Settings
from pawl.streams.sql_alone import open_stream
from pawl.versions.contradictions import refuse_contradictions
from worker.consolidator import Consolidator
from worker.health.environment import Environment
from worker.loop import LearnerLoop, LearnerParts
from worker.maintenance import Filing, Maintenance
from worker.release.publisher import Publisher
from worker.state.first_encoder import first_state
from worker.state.learned_samples import LearnedSamples
from worker.state.learner_ports import LearnerPorts
from worker.state.recovery import Recovery
from worker.state.snapshots import Snapshots
from worker.updates.bootstrap import Bootstrap
from worker.updates.encoder_check import EncoderCheck
from worker.updates.encoder_swap import EncoderSwap
from worker.updates.head_update import HeadUpdate
from worker.updates.label_change import LabelChanger
from worker.updates.rebuild import Rebuild
from worker.updates.retuning import Retuning
from worker.updates.step_runner import StepRunner

log = structlog.get_logger("worker")


class EncoderLibrary(Protocol):
    """Opens encoders. The process gives `Backends`, tests and benchmarks may give one that remembers or fails."""

    def open(self, folder: Path, digest: str) -> Encoder:
        """The encoder in a verified folder. Raises `ArtefactCorrupt` and `EncoderRejected`."""
        ...

    def review(self, folder: Path, digest: str, stop: Callable[[], bool]) -> Comparison | None:
        """Measures a doubtful choice of a backend again; None where nothing was measured."""
        ...


@asynccontextmanager
async def open_learner(settings: Settings) -> AsyncIterator[LearnerLoop]:
    """The learner of a process, on the adapters that the settings name. Closes its connections afterwards."""
    # OpenBLAS spins after each product whatever OMP_WAIT_POLICY says: half of the learner's CPU time (ADR 0018).
    calm_blas()
    # A correction is too small to share: a second thread costs more than it saves, and on the core that answers.
    torch.set_num_threads(settings.threads or 1)
    clock = SystemClock()
    engine = connect(settings.sql_url, settings.learner_server_seconds)
    ledger = SqlVersionLedger(engine, clock)
    ports = LearnerPorts(
        samples=SqlSampleStore.of(engine, settings, clock),
        ledger=ledger,
        labels=SqlLabelStore(engine, clock),
        artefacts=FolderArtefactStore(settings.artefacts_path, [settings.encoders_path]),
        stream=open_stream(settings, ledger),
        clock=clock,
    )
    try:
        yield LearnerLoop(assemble(settings, ports, check_schema=_schema_check(settings, ports, engine)))
    finally:
        await ports.stream.close()
        await engine.dispose()


def assemble(
    settings: Settings,
    ports: LearnerPorts,
    encoders: EncoderLibrary | None = None,
    check_schema: Callable[[], Awaitable[None]] | None = None,
) -> LearnerParts:
    """The parts of a learner on given ports; without `encoders`, those that the settings name."""
    encoders = encoders or Backends.of(settings)
    # A function: a home that has a version has its encoder there, and exports none.
    empty_state = partial(first_state, settings, encoders.open)
    learned = LearnedSamples(ports.samples, settings)
    snapshots = Snapshots(settings.snapshots_path, settings.young_class_size)
    recovery = Recovery(ports, learned, snapshots, encoders.open, settings)
    publisher = Publisher(ports, keep_versions=settings.keep_versions)
    runner = StepRunner(ports.ledger, publisher, recovery, learned, settings)
    head_update = HeadUpdate(runner, ports, publisher, learned, settings)
    retuning = Retuning(runner)
    environment = Environment(ports.ledger, runner.dry_run)
    # Asked at each run: which versions the rollback monitor compares with changes with the labels that arrive.
    filing = Filing(snapshots, publisher, lambda: head_update.protected)
    return LearnerParts(
        settings=settings,
        ports=ports,
        environment=environment,
        encoder_check=EncoderCheck(ports, empty_state, environment, settings),
        check_schema=check_schema or _nothing,
        publisher=publisher,
        snapshots=snapshots,
        recovery=recovery,
        runner=runner,
        bootstrap=Bootstrap(runner, ports, recovery, empty_state, settings),
        head_update=head_update,
        retuning=retuning,
        label_changer=LabelChanger(runner, ports, learned, environment, settings),
        rebuild=Rebuild(runner, recovery, ports, empty_state, encoders.open, settings),
        consolidator=Consolidator(ports, EncoderSwap(ports, publisher, recovery, settings), encoders.open, settings),
        maintenance=Maintenance(runner, retuning, environment, filing, encoders.review, settings),
    )


def _schema_check(settings: Settings, ports: LearnerPorts, engine: AsyncEngine) -> Callable[[], Awaitable[None]]:
    """Raises `SchemaMismatch`; at its first call also what the settings contradict of what the home was made with."""
    checked = asyncio.Event()

    async def check() -> None:
        await check_current(engine)
        if not checked.is_set():  # at the start: a roll-back to a version of another encoder stops nobody
            with suppress(ArtefactCorrupt):  # what a damaged version was made with is nothing to hold against anybody
                for plan in await refuse_contradictions(settings, ports.ledger, ports.artefacts, ports.samples):
                    log.warning("setting_not_in_effect_yet", setting=plan.setting, problem=str(plan))
        checked.set()

    return check


async def _nothing() -> None:
    return
