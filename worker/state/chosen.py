"""What was chosen for the heads of a version's tasks, as its metrics, its manifest and an export of it say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pawl.classifier.stacking import Stacking
from pawl.domain.imports import ExportedHeads
from pawl.domain.versions import HeadName, Version
from pawl.json_values import Json
from pawl.ports import Floats
from worker.model.hyperparameters import UNFITTED
from worker.model.proposal import Hyperparameters


def chosen_metrics(chosen: Mapping[str, Hyperparameters]) -> Json:
    """By task: lambda of each head, the number of samples at which it was chosen, and words where there are two heads.

    Temperature and shares are in the manifest's table of heads.
    """
    return {
        "regularisation": {task: dict(each.regularisation) for task, each in chosen.items()},
        "regularisation_chosen_at": {task: each.samples for task, each in chosen.items()},
        "words": {task: each.stacking.words for task, each in chosen.items() if len(each.regularisation) > 1},
    }


def chosen_for(version: Version, task: str, present: Hyperparameters = UNFITTED) -> Hyperparameters:
    """What a version says of a task; `present` where it says nothing."""
    regularisation: Mapping[HeadName, float] = version.metrics.get("regularisation", {}).get(task, {})
    chosen = replace(
        present,
        regularisation={**present.regularisation, **regularisation},
        samples=int(version.metrics.get("regularisation_chosen_at", {}).get(task, present.samples)),
    )
    info = version.heads.get(task)
    if info is None:
        return chosen
    return replace(chosen, temperature=info.temperature, stacking=Stacking.from_info(info.lexical))


def as_exported(heads: ExportedHeads, samples: int) -> Hyperparameters:
    """What an export says, for heads of so many samples."""
    stacking = Stacking(heads.words, heads.semantic, heads.lexical)
    return Hyperparameters(heads.regularisation, stacking, heads.temperature, samples)


def exported_centre(encoder: str, dimension: int, said: Sequence[ExportedHeads | None]) -> Floats | None:
    """The centre, shape (d,) or (0,), that exports say of all samples of a first version, by what they say of each.

    None where they do not, or not of the encoder with this digest and dimension: the features of all tasks share it, so
    no task alone decides.
    """
    centres = {None if heads is None else heads.centre for heads in said}
    [centre] = centres if len(centres) == 1 else [None]
    if centre is None or centre.encoder != encoder:
        return None
    return np.array(centre.numbers, np.float32) if len(centre.numbers) in {0, dimension} else None
