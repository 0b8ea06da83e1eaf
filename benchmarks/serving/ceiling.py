"""The ceiling: a version's encoder and semantic head in a process of their own, without HTTP, on batches of some sizes.

    python -m benchmarks.serving.ceiling HOME TEXTS.txt [TASK]

HOME has a version; its lexical heads are left out, so that every text is encoded. TEXTS has one JSON string in a
line. One line of JSON comes out: texts/s for each size of batch, the
median time of a single call in ms, and the CPU time a text took.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from app.commands.home.stores import open_stores
from benchmarks.harness import Json
from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.served_heads import ServedHeads
from pawl.domain.samples import DEFAULT_TASK
from pawl.ports import VersionFolder
from pawl.settings import load_settings

SIZES = (1, 8, 32)


async def _live(home: Path) -> VersionFolder:
    settings = load_settings(home=home)
    async with open_stores(settings) as stores:
        version = await stores.ledger.live()
    if version is None:
        raise SystemExit(f"{home} has no version")
    return FolderArtefactStore(settings.artefacts_path).open(version.number)


def without_words(whole: Classifier) -> Classifier:
    """The same version as if its tasks had the semantic head alone."""
    heads = {task: ServedHeads(one.semantic, one.novelty) for task, one in whole.heads.items()}
    return Classifier(whole.number, whole.manifest, whole.encoder, whole.features, heads)


def measure(classifier: Classifier, texts: Sequence[str], size: int, seconds: float, task: str) -> Json:
    """Texts/s, ms a call (median) and ms of CPU a text, in batches of one size."""
    batches = itertools.cycle([texts[start : start + size] for start in range(0, len(texts) - size + 1, size)])
    classifier.predict(next(batches), task)
    calls: list[float] = []
    begun, spent = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        classifier.predict(next(batches), task)
        calls.append(time.perf_counter() - at)
    answered = len(calls) * size
    return {
        "texts_per_s": answered / (time.perf_counter() - begun),
        "call_ms": 1000 * statistics.median(calls),
        "cpu_ms_per_text": 1000 * (time.process_time() - spent) / answered,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the measurement."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("home", type=Path)
    options.add_argument("texts", type=Path)
    options.add_argument("task", nargs="?", default=DEFAULT_TASK)
    options.add_argument("--seconds", type=float, default=3.0, help="for each size (default 3)")
    given = options.parse_args(argv)
    classifier = without_words(load_classifier(asyncio.run(_live(given.home)), backends=Backends.of(load_settings())))
    texts = [json.loads(line) for line in given.texts.read_text(encoding="utf-8").splitlines()]
    print(json.dumps({str(size): measure(classifier, texts, size, given.seconds, given.task) for size in SIZES}))


if __name__ == "__main__":
    main()
