"""One training of an encoder on given material; the same for a consolidation, `pawl tune` and the benchmarks."""

from __future__ import annotations

from collections.abc import Callable

from pawl.classifier.encoders.torch_backend import TorchEncoder
from pawl.settings import Settings
from worker.consolidation.data.examples import class_weights, fitted_heads, make_examples
from worker.consolidation.data.material import Material
from worker.consolidation.training.network import Network
from worker.consolidation.training.recipe import Recipe
from worker.consolidation.training.schedule import Evaluation
from worker.consolidation.training.trainer import Outcome, Report, Trainer


def fine_tune(
    encoder: TorchEncoder,
    material: Material,
    settings: Settings,
    seed: int,
    *,
    due: Callable[[], bool] = lambda: False,
    report: Report = lambda *_: None,
    evaluated: Callable[[Evaluation], None] = lambda _: None,
) -> tuple[Recipe, Outcome]:
    """Trains the encoder in place, where it is. See `Trainer` for `due`, `report`, `evaluated`."""
    recipe = Recipe.of(settings, encoder.device, padding=encoder.spec.pad_id, seed=seed)
    tokenise, spaces = encoder.tokenizer.tokenize, material.spaces
    weights = class_weights(material.samples, settings.class_weights)
    examples = make_examples(material.samples, spaces, tokenise, material.teachers, weights)
    validation = make_examples(material.validation, spaces, tokenise, {})
    # The loss is on the last layer's part of z alone, which comes first; what it teaches, the layers below learn too.
    z = material.z[:, : encoder.spec.hidden]
    network = Network(encoder.module.last_layer(), fitted_heads(material.samples, z, spaces))
    trainer = Trainer(network, recipe, encoder.device, due=due, report=report, evaluated=evaluated)
    return recipe, trainer.run(examples, validation)
