"""All that the learner holds in memory for the live version; it can be made anew from SQL and the artefacts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pawl.classifier.encoders.tokenization import reader_of
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.domain.encoders import EncoderOrigin
from pawl.domain.samples import Sample, Split
from pawl.ports import Encoder, Floats, SampleStore
from pawl.settings import Settings
from worker.model.change import LabelledFeatures
from worker.model.class_balance import ClassBalance
from worker.model.hyperparameters import DEFAULT
from worker.model.proposal import Proposal
from worker.model.ridge import RidgeHead
from worker.model.task_model import TaskModel

_ENCODE_CHUNK = 512
_NOVELTY_GROWTH = 1.2


@dataclass(frozen=True, slots=True)
class Ranked:
    """A task's novelty, and the samples and lambda of the head that it was made for."""

    novelty: Novelty
    samples: int
    regularisation: float

    def is_outgrown(self, samples: int, regularisation: float) -> bool:
        """Whether the head has changed so much since that it is to be made anew."""
        fewer, more = sorted((samples, self.samples))
        return regularisation != self.regularisation or more > _NOVELTY_GROWTH * fewer


@dataclass(slots=True)
class LearnerState:
    """The live version's encoder and the learners on it. `version` is 0 before there is one.

    `trained` are digests of the texts that this encoder, or one it descends from, was trained on; `unsaved` counts the
    samples that came or went since the last snapshot. `made_with` is what was chosen for encoder and features, before
    any training; None of a version that does not say so. `encoder_watermark` is the largest `seq` that a
    consolidation, whether it came to something or not, has looked at.
    """

    version: int
    encoder: Encoder
    encoder_folder: Path
    features: RandomFeatures
    settings: Settings
    tasks: dict[str, TaskModel] = field(default_factory=dict)
    trained: frozenset[str] = frozenset()
    watermark: int = 0
    encoder_watermark: int = 0
    made_with: EncoderOrigin | None = None
    unsaved: int = 0
    novelty: dict[str, Ranked] = field(default_factory=dict)
    alike: set[str] = field(default_factory=set)
    """Ids of samples that read the same as others with another label (`worker/screening/truncation.py`)."""
    recent: dict[str, Floats] = field(default_factory=dict)
    """Embeddings that were asked for last, by sample id: screen, probation and head each ask for those of a batch."""

    @property
    def samples(self) -> int:
        """Samples learned, over all tasks."""
        return sum(learner.samples for learner in self.tasks.values())

    def task(self, name: str, regularisation: float = DEFAULT) -> TaskModel:
        """The learner of a task, made empty where there is none."""
        if name not in self.tasks:
            self.tasks[name] = TaskModel(
                RidgeHead(
                    self.features.width,
                    regularisation,
                    dtype=getattr(torch, self.settings.head_precision),
                    device=device_of(self.settings),
                ),
                evaluation_limit=self.settings.gate_items,
                balance=ClassBalance(self.settings.young_class_size, self.settings.prior_correction),
                emphasis_limit=self.settings.correction_emphasis,
            )
        return self.tasks[name]

    def examples(self, samples: Sequence[Sample], embeddings: dict[str, Floats]) -> list[LabelledFeatures]:
        """Samples with their features, from embeddings z (d,) by sample id."""
        if not samples:
            return []
        z = np.stack([embeddings[sample.id] for sample in samples])
        features = torch.from_numpy(self.features.expand(z))
        return [
            LabelledFeatures(
                sample_id=sample.id,
                label=sample.label,
                weight=sample.weight * sample.emphasis,
                features=row,
                order=sample.text_digest,
                heldout=sample.split is Split.HELDOUT,
                golden=sample.split is Split.GOLDEN,
                pinned=sample.pinned,
                eligible=sample.text_digest not in self.trained and sample.id not in self.alike,
            )
            for sample, row in zip(samples, features, strict=True)
        ]

    def heads(self, proposals: Mapping[str, Proposal]) -> dict[str, LinearHead]:
        """Heads of the next version: the proposed ones where there are some, the live ones elsewhere."""
        heads = {}
        for name, model in self.tasks.items():
            head = proposals.get(name)
            labels = head.labels if head else tuple(model.labels)
            weights = head.weights if head else model.head.weights
            offsets = head.offsets if head else model.offsets(model.counts)
            temperature = head.temperature if head else model.temperature
            if labels:
                heads[name] = LinearHead(
                    labels, weights.float().cpu().numpy(), offsets.float().cpu().numpy(), temperature
                )
        return heads

    def ranked(self, proposals: Mapping[str, Proposal]) -> dict[str, Ranked]:
        """Novelty of each task in the next version; as it was for those that have hardly changed since it was made."""
        found = {}
        for name, learner in self.tasks.items():
            made = proposals.get(name)
            if made is None and not learner.labels:
                continue
            samples, regularisation = learner.samples, learner.head.regularisation
            if made is not None:
                samples, regularisation = made.samples, made.regularisation.value
            kept = self.novelty.get(name)
            if kept is None or kept.is_outgrown(samples, regularisation):
                kept = Ranked(learner.novelty(self.features.widened, made), samples, regularisation)
            found[name] = kept
        return found


def device_of(settings: Settings) -> torch.device:
    """The device the settings name; `auto` is CUDA where there is one."""
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def encoded(encoder: Encoder, texts: list[str]) -> tuple[Floats, dict[int, str]]:
    """Embeddings z of texts and, by row, the digest of what was read of those that are longer than that."""
    z, reader = encoder.encode(texts), reader_of(encoder)
    read = [] if reader is None else reader.read(texts)
    return z, {row: one.cut for row, one in enumerate(read) if one.cut is not None}


async def embeddings_of(state: LearnerState, store: SampleStore, samples: Sequence[Sample]) -> dict[str, Floats]:
    """Embeddings z of samples under the state's encoder: the kept ones, and the missing ones computed and kept.

    They are kept before a version is promoted on them: "learned and has an embedding" is what being in the head means
    after a restart.
    """
    found = {sample.id: state.recent[sample.id] for sample in samples if sample.id in state.recent}
    if unknown := [sample.id for sample in samples if sample.id not in found]:
        found |= await store.get_embeddings(state.encoder.digest, unknown)
    missing = [sample for sample in samples if sample.id not in found]
    for start in range(0, len(missing), _ENCODE_CHUNK):  # a chunk at a time: a stop or a crash keeps what is done
        chunk = missing[start : start + _ENCODE_CHUNK]
        z, cuts = await asyncio.to_thread(encoded, state.encoder, [sample.text for sample in chunk])
        fresh = {sample.id: row for sample, row in zip(chunk, z, strict=True)}
        await store.put_embeddings(state.encoder.digest, fresh, {chunk[row].id: cut for row, cut in cuts.items()})
        found |= fresh
    if len(found) <= _ENCODE_CHUNK:
        state.recent = dict(found)
    return found
