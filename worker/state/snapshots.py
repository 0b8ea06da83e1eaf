"""Snapshots of the learner's statistics, so that a restart does not read the whole store again.

A snapshot is a safetensors file (for each task the Gram matrix, upper triangle, and B, float64) and a JSON file beside
it that is written last: the version they belong to, labels, counts, calibration, panel, and the SHA-256 of it all. What
was learned after it is in the ledger, so a lost, old or damaged snapshot costs time, never a label.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pawl.files import write_atomic
from worker.state.learner_state import LearnerState

_FORMAT = 1
_KEEP = 2
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that can be restored. `panel` holds sample ids per task."""

    version: int
    about: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def panel(self) -> dict[str, list[str]]:
        """Sample ids on each task's panel."""
        return {task: list(each["panel"]) for task, each in self.about["tasks"].items()}

    def restore(self, state: LearnerState) -> None:
        """Fills an empty state's heads. The panels are seated afterwards."""
        for task, each in self.about["tasks"].items():
            learner = state.task(task, float(each["regularisation"]))
            head = learner.head
            upper = torch.triu_indices(head.dimension, head.dimension)
            packed = self.tensors[f"{task}/gram"].to(head.device)
            head.gram[upper[0], upper[1]] = packed
            head.gram[upper[1], upper[0]] = packed
            head.moments = self.tensors[f"{task}/moments"].to(head.device)
            head.refit()
            learner.labels, learner.counts = list(each["labels"]), [int(count) for count in each["counts"]]
            learner.temperature = float(each["temperature"])
            learner.regularisation_chosen_at = int(each["chosen_at"])


@dataclass(frozen=True, slots=True)
class Packed:
    """A snapshot on its way to the disk."""

    about: dict[str, Any]
    tensors: dict[str, torch.Tensor]


class Snapshots:
    """The newest few snapshots in a folder; `young_class_size` is what the learner weighs its samples by."""

    def __init__(self, folder: Path, young_class_size: int) -> None:
        self._folder = folder
        self._weighed = young_class_size

    def save(self, state: LearnerState) -> Path:
        """Packs a state and writes it."""
        return self.write(pack(state))

    def write(self, packed: Packed) -> Path:
        """Writes a packed state (temp file, fsync, rename) and removes old snapshots."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = save(packed.tensors)
        about = packed.about | {"sha256": _digest(packed.about, content)}
        path = self._folder / f"{about['version']:08d}.safetensors"
        write_atomic(path, content)
        write_atomic(path.with_suffix(".json"), json.dumps(about))
        for old in sorted(self._folder.glob("*.json"))[:-_KEEP]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        return path

    def newest(self, encoder_digest: str, features_digest: str, up_to: int) -> Snapshot | None:
        """The newest usable snapshot of this encoder and these features, not newer than a version."""
        for path in sorted(self._folder.glob("*.json"), reverse=True):
            try:
                about = json.loads(path.read_bytes())
                if about["format"] != _FORMAT or about["encoder"] != encoder_digest or about["version"] > up_to:
                    continue
                if (about["features"], about["young_class_size"]) != (features_digest, self._weighed):
                    continue  # other numbers, or another weight of every young class, are in these statistics
                content = path.with_suffix(".safetensors").read_bytes()
                if about.pop("sha256") == _digest(about, content):
                    return Snapshot(int(about["version"]), about, load(content))
                log.warning("snapshot_damaged", path=str(path))
            except (OSError, KeyError, ValueError, SafetensorError) as error:
                log.warning("snapshot_unusable", path=str(path), error=repr(error))
        return None


def pack(state: LearnerState) -> Packed:
    """A copy of what is kept of a state, which may change as soon as this returns."""
    tensors: dict[str, torch.Tensor] = {}
    tasks: dict[str, Any] = {}
    for task, learner in state.tasks.items():
        head = learner.head
        upper = torch.triu_indices(head.dimension, head.dimension)
        tensors[f"{task}/gram"] = head.gram[upper[0], upper[1]].cpu()
        tensors[f"{task}/moments"] = head.moments.cpu().clone(memory_format=torch.contiguous_format)
        tasks[task] = {
            "labels": list(learner.labels),
            "counts": list(learner.counts),
            "regularisation": head.regularisation,
            "temperature": learner.temperature,
            "chosen_at": learner.regularisation_chosen_at,
            "panel": [item.sample_id for item in learner.evaluation.items],
        }
    about = {"format": _FORMAT, "version": state.version, "encoder": state.encoder.digest, "tasks": tasks}
    about |= {"features": state.features.digest, "young_class_size": state.settings.young_class_size}
    return Packed(about, tensors)


def _digest(about: dict[str, Any], content: bytes) -> str:
    """Over both files: a wrong count or lambda would do as much harm as a wrong matrix."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(content)
    return digest.hexdigest()
