"""A version used from Python, without the service."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pawl.artefacts.folders import FolderArtefactStore
from pawl.artefacts.verification import read_folder
from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.encoders.choice import Backends
from pawl.db.engine import connect
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import NoLiveVersion
from pawl.domain.manifest import MANIFEST_FILE
from pawl.settings import Settings, load_settings


def load(path: str | Path | None = None, *, threads: int = 0) -> Classifier:
    """Verifies and loads a version.

    Args:
        path: A version's folder (with `manifest.json`), where Pawl keeps it or wherever it was copied to; or a home,
            whose live version is loaded. Without it, the home that `PAWL_HOME` names, or `~/.pawl`.
        threads: Batches at a time, each on one thread; 0 means one for each core.

    Raises:
        ArtefactCorrupt: The folder is missing, or anything in it is missing, altered or odd.
        NoLiveVersion: The home has no version yet.
        StoreUnavailable: The home's database cannot be read.
    """
    folder = Path(path).expanduser() if path is not None else load_settings().home_path
    # A path that is neither is taken for a version's folder, so that the error names what is missing there.
    if not (folder / MANIFEST_FILE).exists() and (path is None or (folder / "artefacts").is_dir()):
        settings = load_settings(home=folder)
        with ThreadPoolExecutor(1) as other:  # there may be a loop in this thread, as in a notebook
            number = other.submit(asyncio.run, _live_number(settings)).result()
        folder = FolderArtefactStore(settings.artefacts_path).path(number)
    return load_classifier(read_folder(folder), backends=Backends(threads=threads))


async def _live_number(settings: Settings) -> int:
    if settings.database_url is None and not (settings.home_path / "pawl.db").exists():
        raise NoLiveVersion  # connecting would make an empty database
    engine = connect(settings.sql_url, settings.learner_server_seconds)
    try:
        live = await SqlVersionLedger(engine).live()
    finally:
        await engine.dispose()
    if live is None:
        raise NoLiveVersion
    return live.number
