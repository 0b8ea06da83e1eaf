"""A version from Python, without the service:

from app.offline import load

model = load("~/.pawl/artefacts/versions/00000001")
print(model.predict(["my card has not arrived"])[0].label)
"""

from __future__ import annotations

from pathlib import Path

from pawl.artefacts.verification import read_folder
from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.encoders.choice import Backends

__all__ = ["Classifier", "load"]


def load(path: str | Path, *, threads: int = 0) -> Classifier:
    """Verifies and loads a version's folder, where Pawl keeps it or wherever it was copied to.

    Args:
        path: The folder with `manifest.json`.
        threads: Batches at a time, each on one thread; 0 means one for each core.

    Raises:
        ArtefactCorrupt: Anything in the folder is missing, altered or odd.
    """
    return load_classifier(read_folder(Path(path).expanduser()), backends=Backends(threads=threads))
