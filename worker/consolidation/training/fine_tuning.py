"""One training of an encoder on given material; the same for a consolidation, `pawl tune` and the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.settings import Settings
from worker.consolidation.data.examples import make_examples
from worker.consolidation.data.material import Material
from worker.consolidation.training.callbacks import SILENT, Callbacks
from worker.consolidation.training.linear_probe import fitted_heads
from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.methods.registry import methods_of
from worker.consolidation.training.network import Network
from worker.consolidation.training.recipe import Recipe
from worker.consolidation.training.trainer import Trainer, TrainingOutcome


def fine_tune(
    encoder: TorchEncoder,
    material: Material,
    settings: Settings,
    seed: int,
    *,
    callbacks: Callbacks = SILENT,
    more: Sequence[Method] = (),
) -> tuple[Recipe, TrainingOutcome]:
    """Trains the encoder in place, where it is, with the methods of the settings and then those in `more`."""
    recipe = Recipe.of(settings, encoder.device, padding=encoder.spec.pad_id, seed=seed)
    tokenise, spaces = encoder.tokenizer.tokenize, material.spaces
    examples = make_examples(material.samples, spaces, tokenise, material.teachers)
    # No teachers: validation asks for the labels alone.
    validation = make_examples(material.validation, spaces, tokenise, {})
    # The loss is on the last layer's part of z alone, which comes first; what it teaches, the layers below learn too.
    z = material.z[:, : encoder.spec.hidden]
    network = Network(encoder.module.last_layer(), fitted_heads(material.samples, z, spaces))
    methods = [*methods_of(settings), *more]
    trainer = Trainer(network, recipe, encoder.device, methods, callbacks)
    return recipe, trainer.run(examples, validation)
