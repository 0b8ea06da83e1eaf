"""What one trial is: a training with some settings, judged on samples that it did not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.device import choose_device
from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.classifier.features import RandomFeatures
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE
from pawl.domain.samples import Sample, Split
from pawl.ports import Floats, VersionFolder
from pawl.settings import Settings
from worker.consolidation.data.inputs import Inputs, TrainingStores, read_samples
from worker.consolidation.data.material import Material, choose, gather
from worker.consolidation.data.replay import SampleRef, balanced
from worker.consolidation.ridge_evaluation import right_answers
from worker.consolidation.training.callbacks import Callbacks
from worker.consolidation.training.fine_tuning import fine_tune
from worker.tune.split import TuneSplit


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """Where trials run. `dev` are samples no encoder was trained on, none held out or golden; no trial trains on one.

    `inputs` are all others, `heldout` those of them that are held out.
    """

    stores: TrainingStores
    live: VersionFolder
    inputs: Inputs
    heldout: tuple[Sample, ...]
    dev: tuple[Sample, ...]
    seed: int

    @property
    def replayable(self) -> bool:
        """Whether some of the samples were trained on before."""
        return bool(self.inputs.seen)

    async def material(self, settings: Settings) -> Material:
        """What these settings train with."""
        return await gather(self.live, choose(self.inputs, settings, self.seed), self.stores.samples, settings)

    def train(self, material: Material, settings: Settings, callbacks: Callbacks) -> list[bool]:
        """Which of dev are right after a training with these settings and a refit of the heads."""
        folder, digest = Path(self.live.path) / ENCODER_FOLDER, self.live.manifest.encoder_digest
        encoder = TorchEncoder(folder, device=str(choose_device(settings.device)), digest=digest)
        fine_tune(encoder, material, settings, self.seed, callbacks=callbacks)
        return self._right(encoder.encode, material)

    def without(self, material: Material, settings: Settings) -> list[bool]:
        """Which of dev are right with the live encoder as it is."""
        folder, digest = Path(self.live.path) / ENCODER_FOLDER, self.live.manifest.encoder_digest
        encoder = Backends.of(settings).open(folder, digest)
        return self._right(encoder.encode, material)

    def _right(self, encode: Callable[[Sequence[str]], Floats], material: Material) -> list[bool]:
        """As in a version: the heads know the held-out samples as well, and lambda is chosen on what judges fairly."""
        known = [*material.samples, *material.validation, *self.heldout]
        trained = self.inputs.seen | {sample.id for sample in material.samples}
        return right_answers(encode, self._features(), known, self.dev, trained)

    def _features(self) -> RandomFeatures:
        folder = Path(self.live.path)
        dimension = EncoderSpec.from_file(folder / ENCODER_FOLDER / SPEC_FILE).dimension
        return RandomFeatures.from_file(folder / FEATURES_FILE, dimension)


async def open_trial_runner(stores: TrainingStores, split: TuneSplit, settings: Settings) -> TrialRunner:
    """Reads the samples that judge: dev, which no trial has, and the held-out ones."""
    # By text: with a label in another task it would be trained on there, and judged on here.
    dev_texts = {sample.text_digest for sample in split.dev}
    learned = tuple(sample for sample in split.inputs.learned if sample.text_digest not in dev_texts)
    held_back = [s for s in learned if s.split is Split.HELDOUT and s.text_digest not in split.golden]
    judges = balanced(held_back, settings.gate_items, settings.seed)
    return TrialRunner(
        stores=stores,
        live=stores.artefacts.open(split.live),
        inputs=replace(split.inputs, learned=learned),
        heldout=await _texts(stores, judges),
        dev=await _texts(stores, split.dev),
        seed=settings.seed,
    )


async def _texts(stores: TrainingStores, samples: Sequence[SampleRef]) -> tuple[Sample, ...]:
    return tuple((await read_samples(stores.samples, [sample.id for sample in samples])).values())


def accuracy(right: list[bool]) -> float:
    """In per cent."""
    return 100.0 * float(np.mean(right))
