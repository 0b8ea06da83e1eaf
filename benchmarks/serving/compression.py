"""Compression: size, speed and accuracy of the encoder that serves, for every `PAWL_COMPRESSION`.

    python -m benchmarks.serving.compression --data ../shared/data

Each encoder has a ridge head of its own, fitted to its own embeddings with lambda by their leave-one-out loss, as in
the learner; accuracy is the mean over draws of the random features. `prune:0.3+int8` distils what the pruned neurons
did on `--distilled` of the training texts, by the consolidation's own code. Speed is measured in turn, in this process:
texts/s alone and sixteen at a time, and the CPU time of a text (all cores together), medians over rounds.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from app.commands.console.terminal import progress_bar
from benchmarks.harness import Json, machine, notes, parser, save, start
from benchmarks.learning.data import Split, load_split
from benchmarks.serving import tables
from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.device import configure_training, use_bfloat16
from pawl.classifier.encoders.export import export_encoder, write_encoder
from pawl.classifier.encoders.spec import ONNX_FILE, SPEC_FILE, TOKENIZER_FILE, EncoderSpec, Precision
from pawl.classifier.features import RandomFeatures
from pawl.ports import Encoder, Floats
from pawl.settings import Settings, load_settings
from worker.consolidation.pruning import compress
from worker.consolidation.ridge_evaluation import answers, fit_best
from worker.consolidation.training.callbacks import Callbacks

_SETS = ("banking77", "clinc150", "financial_phrasebank")
_FLOAT, _BF16, _INT8, _PRUNED = "none", "none, on OpenVINO", "int8", "prune:0.3+int8"
_SHARE = 0.3
_CHUNK = 64
_TIMED = 128  # texts of a round


class Folders:
    """The encoder folders, exported once; a pruned one for each data set, since it is distilled on its texts."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings
        self.whole, self.int8, self._root = root / "float32", root / "int8", root
        precisions: dict[Path, Precision] = {self.whole: "float32", self.int8: "int8"}
        for folder, precision in precisions.items():
            export_encoder(
                settings.encoder,
                folder,
                max_tokens=settings.max_tokens,
                pooled_layers=settings.pooled_layers,
                precision=precision,
            )

    def pruned(self, name: str, texts: Sequence[str], seed: int) -> Path:
        """Pruned, distilled on these texts, and in int8."""
        encoder = TorchEncoder(self.whole, device="cpu", digest="")
        with progress_bar() as bar:
            task = bar.add_task(f"{name}: distilling", total=None)
            compress(
                encoder,
                texts,
                _SHARE,
                seed,
                bf16=use_bfloat16(self._settings.bf16, encoder.device),
                callbacks=Callbacks(
                    due=lambda: True, report=lambda step, steps, _: bar.update(task, completed=step, total=steps)
                ),
            )
        folder = self._root / f"pruned-{name}"
        tokenizer = (self.whole / TOKENIZER_FILE).read_text("utf-8")
        write_encoder(encoder.module.model, tokenizer, replace(encoder.spec, precision="int8"), folder)
        return folder


def accuracy(encoder: Encoder, hidden: int, split: Split, settings: Settings, draws: int, title: str) -> list[float]:
    """% right of the test texts, one number for each draw of the random features."""
    labels = split.labels
    truth = [labels.index(row.label) for row in split.train]
    z, asked = (_embed(encoder, [row.text for row in rows], title) for rows in (split.train, split.test))
    found = []
    for draw in range(draws):
        features = RandomFeatures.create(hidden, settings.random_features, draw, encoder.dimension)
        head = fit_best(features.expand(z), truth, len(labels))
        said = answers(head, features.expand(asked))
        right = [labels[k] == row.label for k, row in zip(said, split.test, strict=True)]
        found.append(100 * float(np.mean(right)))
    return found


def _embed(encoder: Encoder, texts: Sequence[str], title: str) -> Floats:
    z = np.empty((len(texts), encoder.dimension), np.float32)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # texts of one length make full batches
    chunks = [order[at : at + _CHUNK] for at in range(0, len(order), _CHUNK)]
    with progress_bar() as bar:
        for rows in bar.track(chunks, description=title):
            z[rows] = encoder.encode([texts[row] for row in rows])
    return z


def speeds(encoders: dict[str, Encoder], texts: Sequence[str], rounds: int) -> dict[str, Json]:
    """Of all encoders in turn: texts/s alone and in sixteen, and ms of CPU time a text."""
    found: dict[str, list[Json]] = {name: [] for name in encoders}
    for _ in range(rounds + 1):  # the first one warms up
        for name, encoder in encoders.items():
            row: Json = {}
            for size in (1, 16):
                begun, spent = time.perf_counter(), time.process_time()
                for at in range(0, len(texts), size):
                    encoder.encode(texts[at : at + size])
                row[f"per_s_{size}"] = len(texts) / (time.perf_counter() - begun)
                row[f"cpu_ms_{size}"] = 1000 * (time.process_time() - spent) / len(texts)
            found[name].append(row)
    return {
        name: {key: statistics.median(row[key] for row in rows[1:]) for key in rows[0]} for name, rows in found.items()
    }


def measure(split: Split, folders: Folders, settings: Settings, draws: int, rounds: int, distilled: int) -> Json:
    """One data set: a row for each kind of encoder."""
    texts = [row.text for row in random.Random(0).sample(split.train, min(distilled, len(split.train)))]
    places = {_FLOAT: folders.whole, _INT8: folders.int8, _PRUNED: folders.pruned(split.name, texts, 0)}
    backends = Backends(threads=settings.threads)
    encoders: dict[str, Encoder] = {name: backends.open(folder, name) for name, folder in places.items()}
    if find_spec("openvino") is not None:
        places[_BF16] = folders.whole
        encoders[_BF16] = Backends("openvino", settings.threads).open(folders.whole, _BF16)
    hidden = EncoderSpec.from_file(folders.whole / SPEC_FILE).hidden
    timed = speeds(encoders, [row.text for row in split.test[:_TIMED]], rounds)
    rows = {}
    for name, encoder in encoders.items():
        found = accuracy(encoder, hidden, split, settings, draws, f"{split.name}: {name}")
        size = (places[name] / ONNX_FILE).stat().st_size / 1e6
        rows[name] = {"accuracy": found, "mean_accuracy": statistics.fmean(found), "megabytes": size} | timed[name]
    return {"train": len(split.train), "test": len(split.test), "distilled": len(texts), "rows": rows}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--sets", nargs="+", choices=_SETS, default=_SETS)
    options.add_argument("--draws", type=int, default=3, help="of the random features (default 3)")
    options.add_argument("--rounds", type=int, default=5, help="of the measurement of speed (default 5)")
    options.add_argument("--distilled", type=int, default=1000, help="texts a pruned encoder is distilled on")
    options.add_argument("--limit", type=int, help="so many training and test texts, for a try")
    given = options.parse_args(argv)
    settings, before = load_settings(), machine()
    configure_training(settings.threads)
    found: dict[str, Json] = {}
    with tempfile.TemporaryDirectory(prefix="pawl-bench-") as scratch:
        folders = Folders(Path(scratch), settings)
        for name in given.sets:
            split = load_split(name, given.data)
            split = replace(split, train=split.train[: given.limit], test=split.test[: given.limit])
            found[name] = measure(split, folders, settings, given.draws, given.rounds, given.distilled)
            notes.print(f"{name}: done", markup=False)
    for name, one in found.items():
        tables.compression(name, one).show()
    save("serving_compression", vars(given), found, before, given.results)


if __name__ == "__main__":
    sys.exit(start(main))
