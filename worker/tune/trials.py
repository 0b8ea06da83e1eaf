"""What one trial is: a training with some settings, judged on samples that it did not see."""

from __future__ import annotations

import asyncio
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
from worker.consolidation.data.replay import balanced
from worker.consolidation.ridge_evaluation import right_answers
from worker.consolidation.training.callbacks import Callbacks
from worker.consolidation.training.fine_tuning import fine_tune
from worker.tune.apart import set_apart


@dataclass(frozen=True, slots=True)
class Bench:
    """Where trials run. `dev` are samples no encoder was trained on, none held out or golden; no trial trains on one.

    `inputs` are all others, `heldout` those of them that are held out; `replayable` says whether the encoder was
    trained before, so that there is replay.
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

    def material(self, runner: asyncio.Runner, settings: Settings) -> Material:
        """What these settings train with."""

        async def read() -> Material:
            selection = choose(self.inputs, settings, self.seed)
            return await gather(self.live, selection, self.stores.samples, settings)

        return runner.run(read())

    def train(
        self,
        material: Material,
        settings: Settings,
        callbacks: Callbacks,
    ) -> list[bool]:
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


async def open_bench(stores: TrainingStores, settings: Settings) -> Bench:
    """Reads the store and sets dev aside. Raises `VersionNotFound`, and `InvalidInput` where there is too little."""
    found = await set_apart(stores.samples, stores.ledger, settings)
    inputs, chosen = found.inputs, {c.text_digest for c in found.dev}
    rest = replace(inputs, learned=tuple(c for c in inputs.learned if c.text_digest not in chosen))
    held_back = [c for c in rest.learned if c.split is Split.HELDOUT and c.text_digest not in found.golden]
    judges = balanced(held_back, settings.gate_items, settings.seed)
    dev, heldout = [
        tuple((await read_samples(stores.samples, [c.id for c in some])).values()) for some in (found.dev, judges)
    ]
    return Bench(stores, stores.artefacts.open(found.live), rest, heldout, dev, settings.seed)


def accuracy(right: list[bool]) -> float:
    """In per cent."""
    return 100.0 * float(np.mean(right))
