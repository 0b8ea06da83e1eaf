"""One row for each method of consolidation, on validation samples alone: what it adds to the defaults.

    python benchmarks/learning/consolidations.py phrasebank --data ../shared/data/financial_phrasebank
    python benchmarks/learning/consolidations.py clinc150 --data ../shared/data/clinc150 --methods default ewc der++

Every row is a real training by the consolidation's own code with the settings of the environment, and then the ridge
head that would serve, refitted on the new features with its lambda by leave-one-out.

`phrasebank` (B5): FinancialPhraseBank 50 %, the 80 % that `benchmarks/consolidation.py` imports with the same seed. A
fifth of them is "dev", which compares methods; the rest is trained on. The other 20 % are not looked at, except with
`--test`, which trains on the 80 % and asks the 20 %. `clinc150` (B1 in two steps): `--texts` of CLINC150's training
texts, class-balanced; the encoder is consolidated on the first 75 classes, and that is where every row starts: it
trains on the other 75 with `--replay` old samples a class replayed, and is asked the validation texts of all 150.
`--attack` adds the share of texts that stand typing mistakes and synonyms.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import torch
from scipy.stats import binomtest

from app.core.classifier.encoder_folder import TOKENIZER_FILE
from app.core.classifier.export import export_encoder, write_encoder
from app.core.classifier.features import RandomFeatures
from app.core.classifier.torch_encoder import TorchEncoder
from app.core.domain.samples import Origin, Sample, SampleState, Split, digest_text
from app.core.ports import Floats
from app.core.settings import Settings, load_settings
from benchmarks import consolidation
from benchmarks.datasets import Labelled, shuffled
from benchmarks.harness import BenchmarkFailed, Json, machine, notes, parser, save, show, start
from benchmarks.learning.attack import ATTACKS, stood, variants
from benchmarks.learning.consolidations_methods import METHODS
from worker.consolidation.examples import label_spaces
from worker.consolidation.fine_tuning import fine_tune
from worker.consolidation.hardware import choose_device, configure_torch, use_bfloat16
from worker.consolidation.material import Material
from worker.consolidation.ridge import answers, fit_best, leave_one_out, losses

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TRIES = 5
_ATTACKED = 300  # texts; five variants of each, and two attacks


@dataclass(frozen=True, slots=True)
class Case:
    """What every row is given. `old` were trained on by the encoder in `folder`; `asked` compares the rows."""

    folder: Path
    new: tuple[Sample, ...]
    old: tuple[Sample, ...]
    asked: tuple[Sample, ...]


def samples_of(rows: Sequence[Labelled]) -> tuple[Sample, ...]:
    """Rows as the store would hold them."""
    return tuple(
        Sample(
            id=f"fb_{digest_text(row.text)[:16]}",
            seq=number,
            task="default",
            text=row.text,
            text_digest=digest_text(row.text),
            label=row.label,
            weight=1.0,
            source=None,
            origin=Origin.IMPORT,
            prediction_id=None,
            served_version=None,
            served_label=None,
            split=Split.TRAIN,
            pinned=False,
            state=SampleState.LEARNED,
            reason=None,
            learned_in_version=1,
            retract_requested=False,
            created_at=_NOW,
            updated_at=_NOW,
        )
        for number, row in enumerate(rows)
    )


def embed(encoder: TorchEncoder, samples: Sequence[Sample], settings: Settings) -> Floats:
    """z, shape (n, d), as training computes it."""
    bf16 = use_bfloat16(settings.bf16, encoder.device)
    with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=bf16):
        return encoder.encode([sample.text for sample in samples])


def material(case: Case, encoder: TorchEncoder, settings: Settings, seed: int) -> Material:
    """New samples, less the validation share, with the replay the settings ask for."""
    rng = random.Random(seed)
    new = rng.sample(case.new, len(case.new))
    held_back = int(settings.validation_share * len(new))
    validation, training = new[:held_back], new[held_back:]
    old_z = embed(encoder, case.old, settings) if case.old else np.zeros((0, encoder.dimension), np.float32)
    teachers, order = _live(case, old_z, _features(encoder, settings), settings, rng)
    replayed = [case.old[row] for row in order]
    z = np.concatenate([embed(encoder, training, settings), old_z[order]])
    known = sorted({sample.label for sample in case.old})
    spaces = label_spaces([*training, *replayed, *validation], {"default": known})
    kept = {sample.id for sample in replayed}
    mine = {name: p for name, p in teachers.items() if name in kept}
    return Material((*training, *replayed), tuple(validation), z, mine, spaces)


def _live(
    case: Case, z: Floats, features: RandomFeatures, settings: Settings, rng: random.Random
) -> tuple[dict[str, Floats], list[int]]:
    """The head on the old samples: its answers for each of them, and the rows that are replayed."""
    if not case.old or not settings.replay_per_class:
        return {}, []
    known = sorted({sample.label for sample in case.old})
    labels = [known.index(sample.label) for sample in case.old]
    phi = features.expand(z)
    head, _ = fit_best(phi, labels, len(known))
    scores = leave_one_out(head, phi, labels)
    probabilities = (scores / 0.1).softmax(dim=1).float().numpy()
    teachers = {sample.id: p for sample, p in zip(case.old, probabilities, strict=True)}
    order = rng.sample(range(len(labels)), len(labels))
    if settings.replay == "hardest":
        loss = losses(scores, labels, 0.1)
        order.sort(key=lambda row: -loss[row])
    if settings.replay == "reservoir":
        return teachers, order[: settings.replay_per_class * len(known)]
    taken: defaultdict[int, list[int]] = defaultdict(list)
    for row in order:
        taken[labels[row]].append(row)
    return teachers, [row for rows in taken.values() for row in rows[: settings.replay_per_class]]


def _features(encoder: TorchEncoder, settings: Settings) -> RandomFeatures:
    return RandomFeatures.create(encoder.spec.hidden, settings.random_features, 0, encoder.dimension)


def run(case: Case, settings: Settings, seed: int, *, attacked: bool) -> tuple[Json, list[bool], TorchEncoder]:
    """One row: trains, refits the head on all that is known, asks. Also which of `asked` were right."""
    device = choose_device(settings.device)
    encoder = TorchEncoder(case.folder, device=str(device), digest="")
    begun, found = time.perf_counter(), {}
    if settings.freeze != "head":
        given = material(case, encoder, settings, seed)
        _, outcome = fine_tune(encoder, given, settings, seed)
        found = {
            "validation": [(one.step, round(one.accuracy, 4)) for one in outcome.history],
            "samples_per_s": outcome.samples / outcome.seconds,
            "new_share": outcome.new_share,
            "train_seconds": time.perf_counter() - begun,
        }
    known = [*case.new, *case.old]
    names = sorted({sample.label for sample in known})
    features = _features(encoder, settings)
    phi = features.expand(embed(encoder, known, settings))
    head, _ = fit_best(phi, [names.index(sample.label) for sample in known], len(names))

    def right(samples: Sequence[Sample]) -> list[bool]:
        said = answers(head, features.expand(embed(encoder, samples, settings)))
        return [names[k] == sample.label for k, sample in zip(said, samples, strict=True)]

    hits = right(case.asked)
    found |= {"accuracy": 100 * float(np.mean(hits)), "lambda": head.regularisation}
    if case.old:
        fresh = {sample.label for sample in case.new}
        for name, wanted in (("old classes", False), ("new classes", True)):
            part = [hit for hit, sample in zip(hits, case.asked, strict=True) if (sample.label in fresh) == wanted]
            found[name] = 100 * float(np.mean(part))
    if attacked:
        for name, change in ATTACKS.items():
            texts = variants([sample.text for sample in case.asked[:_ATTACKED]], change, _TRIES, seed)
            changed = [dataclasses.replace(case.asked[k // _TRIES], text=text) for k, text in enumerate(texts)]
            found[name] = 100 * float(np.mean(stood(right(changed), _TRIES)))
    return found, hits, encoder


def phrasebank(data: Path, folder: Path, seed: int, *, test: bool) -> Case:
    """The 80 % divided into what is known and dev, or all of them and the 20 %."""
    rng = random.Random(seed)
    train, asked = consolidation.split(shuffled(consolidation.read(data), rng), 0.8, rng)
    if not test:
        asked, train = train[: len(train) // 5], train[len(train) // 5 :]
    return Case(folder, samples_of(train), (), samples_of(asked))


def clinc150(data: Path, folder: Path, seed: int, texts: int, settings: Settings) -> Case:
    """The second of two steps; the encoder of the first is trained here and written beside `folder`."""
    file = data / "data_full.json"
    if not file.is_file():
        raise BenchmarkFailed(f"{file} is missing (see the data folder's MANIFEST.md)")
    parts = json.loads(file.read_text(encoding="utf-8"))
    rng = random.Random(seed)
    by_class: defaultdict[str, list[Labelled]] = defaultdict(list)
    for text, label in parts["train"]:
        by_class[label].append(Labelled(text, label))
    names = rng.sample(sorted(by_class), len(by_class))
    each = max(2, texts // len(names))
    chosen = {label: samples_of(rng.sample(by_class[label], each)) for label in names}
    asked = samples_of([Labelled(text, label) for text, label in parts["val"]])
    first = tuple(sample for label in names[: len(names) // 2] for sample in chosen[label])
    second = tuple(sample for label in names[len(names) // 2 :] for sample in chosen[label])
    before = Case(folder, first, (), tuple(s for s in asked if s.label in names[: len(names) // 2]))
    found, _, encoder = run(before, settings, seed, attacked=False)
    notes.print(f"first step: {found}", markup=False)
    into = folder.parent / "first"
    write_encoder(encoder.module.model, (folder / TOKENIZER_FILE).read_text("utf-8"), encoder.spec, into)
    return Case(into, second, first, asked)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("protocol", choices=("phrasebank", "clinc150"))
    options.add_argument("--data", type=Path, required=True, metavar="DIR")
    options.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    options.add_argument("--test", action="store_true", help="phrasebank: ask the 20 %% that nothing was chosen on")
    options.add_argument("--texts", type=int, default=1500, help="clinc150: training texts (default 1500)")
    options.add_argument("--replay", type=int, default=5, help="clinc150: replayed per class (default 5)")
    options.add_argument("--limit", type=int, help="asked texts, for a try")
    options.add_argument("--attack", action="store_true", help="also under typing mistakes and synonyms")
    options.add_argument("--name", default="", help="ending of the result's name")
    given = options.parse_args(argv)
    before, settings = machine(), load_settings()
    configure_torch(settings.threads)
    rows: dict[str, Json] = {}
    with tempfile.TemporaryDirectory(prefix="pawl-bench-") as folder:
        source = Path(folder) / "encoder"
        export_encoder(settings.encoder, source, max_tokens=settings.max_tokens, pooled_layers=settings.pooled_layers)
        if given.protocol == "phrasebank":
            case = phrasebank(given.data, source, given.seed, test=given.test)
        else:
            settings = settings.model_copy(update={"replay_per_class": given.replay})
            case = clinc150(given.data, source, given.seed, given.texts, settings)
        case = dataclasses.replace(case, asked=case.asked[: given.limit])
        base: list[bool] = []
        for name in given.methods:
            chosen = settings.model_copy(update=METHODS[name])
            rows[name], hits, _ = run(case, chosen, given.seed, attacked=given.attack)
            base = base or hits
            rows[name] |= _paired(base, hits)
            notes.print(f"{name}: {rows[name]}", markup=False, soft_wrap=True)
    _report(given.protocol, rows)
    ending = "_test" if given.test else ""
    save(f"consolidations_{given.protocol}{ending}{given.name}", vars(given), rows, before, given.results)


def _paired(base: Sequence[bool], hits: Sequence[bool]) -> Json:
    gained = sum(now and not then for now, then in zip(hits, base, strict=True))
    lost = sum(then and not now for now, then in zip(hits, base, strict=True))
    return {"gained": gained, "lost": lost, "p": float(binomtest(lost, gained + lost).pvalue) if gained + lost else 1.0}


def _report(protocol: str, rows: dict[str, Json]) -> None:
    columns = ["accuracy", "gained", "lost", "p", "train_seconds", "old classes", "new classes", *ATTACKS]
    present = [column for column in columns if any(column in row for row in rows.values())]
    first = next(iter(rows))
    table = [(name, *(row.get(column, "") for column in present)) for name, row in rows.items()]
    show(f"{protocol}: gained and lost against `{first}`", ("method", *present), table)


if __name__ == "__main__":
    sys.exit(start(main))
