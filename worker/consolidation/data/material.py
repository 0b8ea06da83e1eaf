"""What an encoder is trained with: which samples, what the live model says about them, and the heads to start from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.encoders.choice import Backends
from pawl.domain.samples import Sample
from pawl.domain.versions import Version
from pawl.ports import Floats, SampleStore, VersionFolder
from pawl.settings import Settings
from worker.consolidation.data.examples import LabelSpaces, label_spaces, live_probabilities
from worker.consolidation.data.inputs import Inputs, read_samples
from worker.consolidation.data.replay import Candidate, Selection, select, trainable
from worker.consolidation.re_embedding import known_embeddings
from worker.consolidation.ridge_evaluation import fit, leave_one_out, losses
from worker.model.hyperparameters import DEFAULT

_VALIDATION_LIMIT = 1000
_RANKED = 50_000  # samples of a task whose leave-one-out loss is worked out; the newest


@dataclass(frozen=True, slots=True)
class Material:
    """`samples` are trained on; z, shape (len(samples), d), are their embeddings under the live encoder.

    `teachers` are the live model's probabilities for the replayed ones, by sample id. `validation` shares no text with
    `samples`.
    """

    samples: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    z: Floats
    teachers: dict[str, Floats]
    spaces: LabelSpaces

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the samples trained on."""
        return frozenset(sample.id for sample in self.samples)


async def choose(live: VersionFolder, inputs: Inputs, store: SampleStore, settings: Settings, seed: int) -> Selection:
    """Divides what was learned into new, replayed and validation samples, as the settings say."""
    golden = frozenset(candidate.text_digest for candidate in inputs.golden)
    hardness: dict[str, float] = {}
    if settings.replay == "hardest":
        seen = [c for c in trainable(inputs.learned, golden) if c.id in inputs.seen]
        hardness = await _hardness(live, inputs.version, seen, store, settings)
    return select(
        inputs.learned,
        inputs.seen,
        golden,
        replay_per_class=settings.replay_per_class,
        validation_share=settings.validation_share,
        validation_limit=_VALIDATION_LIMIT,
        limit=settings.coreset,
        seed=seed,
        policy=settings.replay,
        hardness=hardness,
    )


async def gather(live: VersionFolder, selection: Selection, store: SampleStore, settings: Settings) -> Material:
    """Reads the selected samples and asks the live model about them."""
    replayed = await read_samples(store, [c.id for c in selection.replayed])
    training = await read_samples(store, [c.id for c in selection.new]) | replayed
    tasks = {sample.task for sample in training.values()}
    held_back = await read_samples(store, [c.id for c in selection.validation])
    validation = tuple(sample for sample in held_back.values() if sample.task in tasks)

    classifier = load_classifier(live, backends=Backends.of(settings))  # let go with this call: some 300 MB
    samples = tuple(training.values())
    z = await known_embeddings(store, classifier.encoder, training)
    rows = [row for row, sample in enumerate(samples) if sample.id in replayed]
    teachers = live_probabilities(classifier, [samples[row] for row in rows], z[rows])
    spaces = label_spaces([*samples, *validation], {t: head.labels for t, head in classifier.heads.items()})
    return Material(samples, validation, z, teachers, spaces)


async def _hardness(
    live: VersionFolder, version: Version, seen: list[Candidate], store: SampleStore, settings: Settings
) -> dict[str, float]:
    """The leave-one-out loss in nats of each sample under a head with the live head's features and lambda, by id."""
    classifier = load_classifier(live, backends=Backends.of(settings))
    by_task: defaultdict[str, list[str]] = defaultdict(list)
    for candidate in seen:
        by_task[candidate.task].append(candidate.id)
    chosen = version.metrics.get("regularisation", {})
    found: dict[str, float] = {}
    for task, ids in by_task.items():
        samples = await read_samples(store, ids[-_RANKED:])
        found |= await _task_hardness(classifier, task, samples, store, float(chosen.get(task, DEFAULT)))
    return found


async def _task_hardness(
    classifier: Classifier, task: str, samples: dict[str, Sample], store: SampleStore, regularisation: float
) -> dict[str, float]:
    names = sorted({sample.label for sample in samples.values()})
    labels = [names.index(sample.label) for sample in samples.values()]
    phi = classifier.features.expand(await known_embeddings(store, classifier.encoder, samples))
    scores = leave_one_out(fit(phi, labels, len(names), regularisation), phi, labels)
    temperature = classifier.heads[task].temperature if task in classifier.heads else 0.1
    return dict(zip(samples, losses(scores, labels, temperature).tolist(), strict=True))
