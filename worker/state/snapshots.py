"""Snapshots of the learner's statistics, so that a restart does not read the whole store again.

A snapshot is a safetensors file (for each head of each task what `RidgeHead.statistics` gives, float64) and a JSON file
beside it that is written last: the version they belong to, labels, counts, calibration, panel, and the SHA-256 of it
all. What was learned after it is in the ledger, so a lost, old or damaged snapshot costs time, never a label.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pawl.classifier.stacking import Stacking
from pawl.files import write_atomic
from worker.model.proposal import Hyperparameters
from worker.model.task_model import TaskModel
from worker.state.learner_state import LearnerState

_FORMAT = 1
_KEEP = 2  # the older one serves where the newest turns out to be damaged
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The statistics of all tasks, and what is to be known about them."""

    about: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def version(self) -> int:
        """The version that they belong to."""
        return int(self.about["version"])

    @property
    def evaluation(self) -> dict[str, list[str]]:
        """Sample ids in each task's evaluation set."""
        return {task: list(each["panel"]) for task, each in self.about["tasks"].items()}

    def restore(self, new_model: Callable[[Hyperparameters], TaskModel]) -> dict[str, TaskModel]:
        """The models by task, made of empty ones with given lambdas. The evaluation sets are filled afterwards."""
        models = {}
        for task, each in self.about["tasks"].items():
            stacking = Stacking(**each["stacking"])
            chosen = Hyperparameters(each["regularisation"], stacking, each["temperature"], each["chosen_at"])
            model = models[task] = new_model(chosen)
            for name, head in model.heads.items():
                head.restore(_below(f"{task}/{name}/", self.tensors))
            model.restore(dict(zip(each["labels"], map(int, each["counts"]), strict=True)), chosen)
        return models


class Snapshots:
    """The newest few snapshots in a folder. One that was made under another `young_class_size` is not used."""

    def __init__(self, folder: Path, young_class_size: int) -> None:
        self._folder = folder
        self._young_class_size = young_class_size

    def write(self, snapshot: Snapshot) -> Path:
        """Writes a snapshot (temp file, fsync, rename) and removes old snapshots."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = save(snapshot.tensors)
        about = snapshot.about | {"sha256": _digest(snapshot.about, content)}
        path = self._folder / f"{about['version']:08d}.safetensors"
        write_atomic(path, content)
        write_atomic(path.with_suffix(".json"), json.dumps(about))
        for old in sorted(self._folder.glob("*.json"))[:-_KEEP]:
            # The JSON first: a crash in between leaves statistics that nobody reads, not a JSON without any.
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        return path

    def newest(self, state: LearnerState, up_to: int) -> Snapshot | None:
        """The newest usable snapshot on the encoder and the features of a state, not newer than a version."""
        for path in sorted(self._folder.glob("*.json"), reverse=True):
            try:
                about = json.loads(path.read_bytes())
                if about["format"] != _FORMAT or about["version"] > up_to:
                    continue
                if about["young_class_size"] != self._young_class_size or about["made_on"] != _made_on(state):
                    continue  # another weight of every young class, or other numbers, are in these statistics
                content = path.with_suffix(".safetensors").read_bytes()
                if about.pop("sha256") == _digest(about, content):
                    return Snapshot(about, load(content))
                log.warning("snapshot_damaged", path=str(path))
            except (OSError, KeyError, ValueError, SafetensorError) as error:
                log.warning("snapshot_unusable", path=str(path), error=repr(error))
        return None


def pack(state: LearnerState) -> Snapshot:
    """A copy of what is kept of a state, which may change as soon as this returns."""
    tensors: dict[str, torch.Tensor] = {}
    tasks: dict[str, Any] = {}
    for task, learner in state.tasks.items():
        for name, head in learner.heads.items():
            tensors |= {f"{task}/{name}/{part}": tensor for part, tensor in head.statistics().items()}
        chosen = learner.hyperparameters
        tasks[task] = {
            "labels": list(learner.labels),
            "counts": list(learner.counts),
            "regularisation": dict(chosen.regularisation),
            "stacking": asdict(chosen.stacking),
            "temperature": chosen.temperature,
            "chosen_at": chosen.samples,
            "panel": [item.sample_id for item in learner.evaluation.items],
        }
    about = {"format": _FORMAT, "version": state.version, "made_on": _made_on(state), "tasks": tasks}
    return Snapshot(about | {"young_class_size": state.settings.young_class_size}, tensors)


def _made_on(state: LearnerState) -> dict[str, Any]:
    """What decides the features: encoder, random features, and the heads with their numbers of features."""
    return {"encoder": state.encoder.digest, "features": state.features.digest, "heads": dict(state.widths)}


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _digest(about: dict[str, Any], content: bytes) -> str:
    """Over both files: a wrong count or lambda would do as much harm as a wrong matrix."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(content)
    return digest.hexdigest()
