"""`python -m worker.consolidation JOB_FOLDER`: the child process of the learner that trains the encoder.

It reads SQL and artefacts, writes into the job's folder alone, and reports its progress on stdout, one JSON object a
line. `result.json` is written last: a child that is killed leaves none, and the learner uses nothing of its work.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import structlog

from pawl.artefacts.folders import FolderArtefactStore
from pawl.db.engine import connect
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import EncoderRejected, PawlError, SettingInvalid, TrainingFailed
from pawl.processes.logs import configure_logs
from pawl.processes.priority import stand_back
from pawl.settings import Settings, load_settings
from worker.consolidation.data.inputs import TrainingStores
from worker.consolidation.job import Job
from worker.consolidation.progress import Progress
from worker.consolidation.yielding import Turns

log = structlog.get_logger(__name__)

_NICENESS = 10  # serving and head updates go first
_PARENT_POLL_SECONDS = 0.5


def main() -> int:
    """Runs one job; returns the exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m worker.consolidation JOB_FOLDER\n")
        return 2
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    folder = Path(sys.argv[1])
    progress = Progress(_take_stdout(), take_turn=Turns(folder).take)
    try:
        # Before torch is imported, which takes seconds in which the parent may die as well.
        threading.Thread(target=_follow_parent, args=(Job.read(folder).parent,), daemon=True).start()
        settings = load_settings()
        configure_logs(settings.log_level)
        stand_back(_NICENESS)
        asyncio.run(_run(folder, settings, progress))
    except PawlError as error:
        log.error("consolidation failed", problem=str(error))  # noqa: TRY400 - expected, the message says it all
        progress.failed(str(error), for_good=isinstance(error, EncoderRejected | TrainingFailed | SettingInvalid))
        return 1
    except Exception as error:
        log.exception("consolidation failed")
        progress.failed(f"{type(error).__name__}: {error}")
        return 1
    return 0


async def _run(folder: Path, settings: Settings, progress: Progress) -> None:
    from pawl.classifier.encoders.device import configure_training  # loads torch, which must find the environment above
    from worker.consolidation.run import consolidate

    # Training holds the event loop for minutes, without a thread of its own: nothing else runs on it.
    configure_training(settings.threads)
    engine = connect(settings.sql_url, settings.learner_server_seconds)
    try:
        samples = SqlSampleStore.of(engine, settings)
        stores = TrainingStores(samples, SqlVersionLedger(engine), FolderArtefactStore(settings.artefacts_path))
        await consolidate(folder, stores, settings, progress)
    finally:
        await engine.dispose()


def _take_stdout() -> TextIO:
    """Returns the real stdout, for progress alone; what libraries print goes to stderr, so that no line is broken."""
    # On the level of descriptors, since libraries in C write to 1 without asking Python.
    ours = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(ours, "w", encoding="utf-8")


def _follow_parent(parent: int) -> None:
    """Ends the process when its parent has died: nobody would read the result.

    A poll and not PR_SET_PDEATHSIG, which is sent already when the *thread* that started the child ends.
    """
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)  # `sys.exit` would end this thread alone


if __name__ == "__main__":
    sys.exit(main())
