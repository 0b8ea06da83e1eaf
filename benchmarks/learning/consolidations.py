"""One row for each method of consolidation, on validation samples alone: what it adds to the defaults.

    python -m benchmarks.learning.consolidations phrasebank --data ../shared/data
    python -m benchmarks.learning.consolidations clinc150 --data ../shared/data --methods default fgm der++

Every row is a real training by the consolidation's own code with the settings of the environment, or with a method of
`benchmarks/methods/` added to them, and then the ridge
head that would serve, refitted on the new features. A tenth of the samples, by the hash of their text, is held out as
in a store: the head learns it, no encoder does, and lambda is chosen by its leave-one-out loss.

`phrasebank` (B5): FinancialPhraseBank 50 %, the 80 % that B5 imports with the same seed. A fifth of them is "dev",
which compares methods; `--texts` of the rest are trained on. The other 20 % are not looked at, except with `--test`,
which trains on the 80 % and asks the 20 %. `clinc150`, `banking77` (B1, B2 in two steps): `--texts` of the training
texts, class-balanced; the encoder is consolidated on half of the classes, and that is where every row starts: it trains
on the other half with `--replay` old samples a class replayed, and is asked texts of all classes: CLINC150's validation
part, 30 % of Banking77's training part.
`--attack` adds the share of texts that stand typing mistakes and synonyms. Methods that were measured before on the
same samples keep their rows.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Json, machine, notes, parser, start
from benchmarks.learning.answers import Bools
from benchmarks.learning.attack import ATTACKS, stood, variants
from benchmarks.learning.consolidations_cases import Case, TwoSteps, phrasebank, two_steps
from benchmarks.learning.consolidations_methods import METHODS
from benchmarks.learning.consolidations_table import TEXTS, compared, earlier_rows, report_rows, save_rows
from benchmarks.learning.metrics import to_text
from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.device import choose_device, configure_training, use_bfloat16
from pawl.classifier.encoders.export import export_encoder, write_encoder
from pawl.classifier.encoders.spec import TOKENIZER_FILE
from pawl.classifier.features import RandomFeatures
from pawl.domain.samples import Sample, Split
from pawl.ports import Floats
from pawl.settings import Settings, load_settings
from pawl.settings.consolidation import ConsolidationSettings
from worker.consolidation.data.examples import label_spaces
from worker.consolidation.data.material import Material
from worker.consolidation.ridge_evaluation import answers, fit_best, leave_one_out
from worker.consolidation.training.fine_tuning import fine_tune
from worker.consolidation.training.methods.method import Method

_TRIES = 5
_ATTACKED = 300  # texts; five variants of each, and two attacks


def embed(encoder: TorchEncoder, samples: Sequence[Sample], settings: Settings) -> Floats:
    """z, shape (n, d), as training computes it."""
    bf16 = use_bfloat16(settings.bf16, encoder.device)
    with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=bf16):
        return encoder.encode([sample.text for sample in samples])


def material(case: Case, encoder: TorchEncoder, settings: Settings, seed: int) -> Material:
    """New samples that are not held out, less the validation share, with the replay the settings ask for."""
    rng = random.Random(seed)
    fresh = [sample for sample in case.new if sample.split is Split.TRAIN]
    new = rng.sample(fresh, len(fresh))
    held_back = int(settings.validation_share * len(new))
    validation, training = new[:held_back], new[held_back:]
    old_z = embed(encoder, case.old, settings) if case.old else np.zeros((0, encoder.dimension), np.float32)
    teachers, order = _live(case, old_z, _features(encoder, settings), settings, rng)
    replayed = [case.old[row] for row in order]
    z = np.concatenate([embed(encoder, training, settings), old_z[order]])
    known = sorted({sample.label for sample in case.old})
    spaces = label_spaces([*training, *replayed, *validation], {"default": known})
    kept = {sample.id for sample in replayed}
    taught = {name: p for name, p in teachers.items() if name in kept}
    return Material((*training, *replayed), tuple(validation), z, taught, spaces)


def _live(
    case: Case, z: Floats, features: RandomFeatures, settings: Settings, rng: random.Random
) -> tuple[dict[str, Floats], list[int]]:
    """The head on the old samples: its answers for each of them, and the rows that are replayed, none held out."""
    if not case.old or not settings.replay_per_class:
        return {}, []
    known = sorted({sample.label for sample in case.old})
    labels = [known.index(sample.label) for sample in case.old]
    phi = features.expand(z)
    head = fit_best(phi, labels, len(known), _held_out(case.old))
    scores = leave_one_out(head, phi, labels)
    probabilities = (scores / 0.1).softmax(dim=1).float().numpy()
    teachers = {sample.id: p for sample, p in zip(case.old, probabilities, strict=True)}
    allowed = [row for row, sample in enumerate(case.old) if sample.split is Split.TRAIN]
    order = rng.sample(allowed, len(allowed))
    taken: defaultdict[int, list[int]] = defaultdict(list)
    for row in order:
        taken[labels[row]].append(row)
    return teachers, [row for rows in taken.values() for row in rows[: settings.replay_per_class]]


def _held_out(samples: Sequence[Sample]) -> list[int]:
    """Rows that lambda is chosen on, as in a version: no encoder was trained on them."""
    return [row for row, sample in enumerate(samples) if sample.split is Split.HELDOUT]


def _features(encoder: TorchEncoder, settings: Settings) -> RandomFeatures:
    return RandomFeatures.create(encoder.spec.hidden, settings.random_features, 0, encoder.dimension)


def run(
    case: Case, settings: Settings, seed: int, *, more: Sequence[Method] = (), attacked: bool = False
) -> tuple[Json, Bools, TorchEncoder]:
    """One row: trains, refits the head on all that is known, asks. Also which of `asked` were right."""
    device = choose_device(settings.device)
    encoder = TorchEncoder(case.folder, device=str(device), digest="")
    begun, measured = time.perf_counter(), {}
    if settings.freeze != "head":
        _, outcome = fine_tune(encoder, material(case, encoder, settings, seed), settings, seed, more=more)
        measured = {
            "validation": [(look.step, round(look.accuracy, 4)) for look in outcome.history],
            "samples_per_s": outcome.samples / outcome.seconds,
            "train_seconds": time.perf_counter() - begun,
        }
    known = [*case.new, *case.old]
    names = sorted({sample.label for sample in known})
    features = _features(encoder, settings)
    phi = features.expand(embed(encoder, known, settings))
    head = fit_best(phi, [names.index(sample.label) for sample in known], len(names), _held_out(known))

    def right(samples: Sequence[Sample]) -> list[bool]:
        said = answers(head, features.expand(embed(encoder, samples, settings)))
        return [names[k] == sample.label for k, sample in zip(said, samples, strict=True)]

    hits = right(case.asked)
    measured |= {"accuracy": 100 * float(np.mean(hits)), "lambda": head.regularisation}
    if case.old:
        fresh = {sample.label for sample in case.new}
        for name, wanted in (("old classes", False), ("new classes", True)):
            part = [hit for hit, sample in zip(hits, case.asked, strict=True) if (sample.label in fresh) == wanted]
            measured[name] = 100 * float(np.mean(part))
    if attacked:
        for name, change in ATTACKS.items():
            texts = variants([sample.text for sample in case.asked[:_ATTACKED]], change, _TRIES, seed)
            changed = [dataclasses.replace(case.asked[k // _TRIES], text=text) for k, text in enumerate(texts)]
            measured[name] = 100 * float(np.mean(stood(right(changed), _TRIES)))
    return measured, np.array(hits, dtype=bool), encoder


def second_step(steps: TwoSteps, folder: Path, seed: int, settings: Settings) -> Case:
    """Where every row starts: the encoder of the first step is trained here and written beside `folder`."""
    measured, _, encoder = run(steps.before(folder), settings, seed)
    notes.print(f"first step: {measured}", markup=False, soft_wrap=True)
    into = folder.parent / "first"
    write_encoder(encoder.module.model, (folder / TOKENIZER_FILE).read_text("utf-8"), encoder.spec, into)
    return Case(into, steps.second, steps.first, steps.asked)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("protocol", choices=("phrasebank", "clinc150", "banking77"))
    options.add_argument("--data", type=Path, required=True, metavar="DIR")
    options.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    options.add_argument("--test", action="store_true", help="phrasebank: ask the 20 %% that nothing was chosen on")
    options.add_argument("--texts", type=int, default=TEXTS, help=f"training texts (default {TEXTS}; --test: all)")
    options.add_argument("--replay", type=int, default=5, help="two steps: replayed per class (default 5)")
    options.add_argument("--limit", type=int, help="asked texts, for a try")
    options.add_argument("--attack", action="store_true", help="also under typing mistakes and synonyms")
    given = options.parse_args(argv)
    before, settings = machine(), load_settings()
    given.defaults = settings.model_dump(include=set(ConsolidationSettings.model_fields))
    configure_training(settings.threads)
    with tempfile.TemporaryDirectory(prefix="pawl-bench-") as folder:
        source = Path(folder) / "encoder"
        export_encoder(settings.encoder, source, max_tokens=settings.max_tokens, pooled_layers=settings.pooled_layers)
        if given.protocol == "phrasebank":
            texts = None if given.test else given.texts
            case = phrasebank(given.data, source, given.seed, test=given.test, texts=texts)
        else:
            settings = settings.model_copy(update={"replay_per_class": given.replay})
            steps = two_steps(given.protocol, given.data, given.seed, given.texts)
            case = second_step(steps, source, given.seed, settings)
        case = dataclasses.replace(case, asked=case.asked[: given.limit])
        rows = earlier_rows(given)
        for name in given.methods:
            chosen = settings.model_copy(update=METHODS[name].settings)
            more = [make() for make in METHODS[name].more]
            measured, hits, _ = run(case, chosen, given.seed, more=more, attacked=given.attack)
            rows[name] = measured | {"right": to_text(hits)}
            notes.print(f"{name}: {measured}", markup=False, soft_wrap=True)
            rows = compared(rows, len(hits))
            save_rows(given, rows, before)  # a row takes minutes: what is there stays, whatever ends the next one
    report_rows(given.protocol, rows)


if __name__ == "__main__":
    sys.exit(start(main))
