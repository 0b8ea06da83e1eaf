"""What an encoder is trained with: which samples, what the live model says about them, and the heads to start from."""

from __future__ import annotations

from dataclasses import dataclass

from pawl.classifier.classifier import load_classifier
from pawl.classifier.encoders.choice import Backends
from pawl.domain.samples import Sample
from pawl.ports import Floats, SampleStore, VersionFolder
from pawl.settings import Settings
from worker.consolidation.data.embeddings import known_embeddings
from worker.consolidation.data.examples import LabelSpaces, label_spaces, live_probabilities
from worker.consolidation.data.inputs import Inputs, read_samples
from worker.consolidation.data.replay import Selection, select

_VALIDATION_LIMIT = 1000


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


def choose(inputs: Inputs, settings: Settings, seed: int) -> Selection:
    """Divides what was learned into new, replayed and validation samples, as the settings say."""
    return select(
        inputs.learned,
        inputs.seen,
        frozenset(sample.text_digest for sample in inputs.golden),
        replay_per_class=settings.replay_per_class,
        validation_share=settings.validation_share,
        validation_limit=_VALIDATION_LIMIT,
        limit=settings.coreset,
        seed=seed,
    )


async def gather(live: VersionFolder, selection: Selection, store: SampleStore, settings: Settings) -> Material:
    """Reads the selected samples and asks the live model about them."""
    replayed = await read_samples(store, [sample.id for sample in selection.replayed])
    training = await read_samples(store, [sample.id for sample in selection.new]) | replayed
    # A task without training samples gets no head, so nothing of it can be validated.
    tasks = {sample.task for sample in training.values()}
    held_back = await read_samples(store, [sample.id for sample in selection.validation])
    validation = tuple(sample for sample in held_back.values() if sample.task in tasks)

    classifier = load_classifier(live, backends=Backends.of(settings))  # 300 MB or more, freed when this call returns
    samples = tuple(training.values())
    z = await known_embeddings(store, classifier.encoder, training)
    rows = [row for row, sample in enumerate(samples) if sample.id in replayed]
    teachers = live_probabilities(classifier, [samples[row] for row in rows], z[rows])
    spaces = label_spaces([*samples, *validation], {t: head.labels for t, head in classifier.heads.items()})
    return Material(samples, validation, z, teachers, spaces)
