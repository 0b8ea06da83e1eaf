"""One training of a copy of the live encoder on given material; the same for a consolidation and for `pawl tune`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from app.core.classifier.torch_encoder import TorchEncoder
from app.core.domain.manifest import ENCODER_FOLDER
from app.core.ports import VersionFolder
from app.core.settings import Settings
from worker.consolidation.examples import class_weights, fitted_heads, make_examples
from worker.consolidation.material import Material
from worker.consolidation.network import Network
from worker.consolidation.recipe import Recipe
from worker.consolidation.schedule import Evaluation
from worker.consolidation.training import Outcome, Report, Trainer


def fine_tune(
    live: VersionFolder,
    material: Material,
    settings: Settings,
    device: torch.device,
    seed: int,
    *,
    due: Callable[[], bool] = lambda: False,
    report: Report = lambda *_: None,
    evaluated: Callable[[Evaluation], None] = lambda _: None,
) -> tuple[TorchEncoder, Recipe, Outcome]:
    """Trains; the encoder then holds the weights that were kept. See `Trainer` for `due`, `report`, `evaluated`."""
    encoder = TorchEncoder(live.path / ENCODER_FOLDER, device=str(device), digest=live.manifest.encoder_digest)
    recipe = Recipe.of(settings, device, padding=encoder.spec.pad_id, seed=seed)
    tokenise, spaces = encoder.tokenizer.tokenize, material.spaces
    weights = class_weights(material.samples, settings.class_weights)
    examples = make_examples(material.samples, spaces, tokenise, material.teachers, weights)
    validation = make_examples(material.validation, spaces, tokenise, {})
    # The loss is on the last layer's part of z alone, which comes first; what it teaches, the layers below learn too.
    z = material.z[:, : encoder.spec.hidden]
    network = Network(encoder.module.last_layer(), fitted_heads(material.samples, z, spaces))
    trainer = Trainer(network, recipe, device, due=due, report=report, evaluated=evaluated)
    return encoder, recipe, trainer.run(examples, validation)
