"""All that the learner holds in memory for the live version; it can be made anew from SQL and the artefacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pawl.classifier.encoders.device import choose_device
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.lexical import LexicalFeatures
from pawl.classifier.lexical_head import LexicalHead
from pawl.classifier.novelty import LexicalNovelty, Novelty
from pawl.classifier.served_heads import ServedHeads
from pawl.domain.encoders import EncoderOrigin
from pawl.domain.samples import Sample, Split
from pawl.domain.versions import HeadName
from pawl.ports import Encoder, Floats
from pawl.settings import Settings
from worker.model.change import LabelledFeatures
from worker.model.class_balance import ClassBalance
from worker.model.hyperparameters import UNFITTED
from worker.model.novelty_reference import lexical_novelty_of, novelty_of
from worker.model.proposal import Hyperparameters, Proposal
from worker.model.ridge import RidgeHead
from worker.model.task_model import TaskModel
from worker.model.words_alone import words_alone
from worker.state.words_rules import WordsRules

_NOVELTY_GROWTH = 1.2


@dataclass(frozen=True, slots=True)
class TaskNovelty:
    """A task's novelty, and that of its words, with the samples of the heads that it was made for and what was chosen.

    `words` is None where there are no lexical features.
    """

    novelty: Novelty
    words: LexicalNovelty | None
    samples: int
    chosen: Hyperparameters

    def is_outgrown(self, samples: int, chosen: Hyperparameters) -> bool:
        """Whether the heads have changed so much since that it is to be made anew."""
        fewer, more = sorted((samples, self.samples))
        changed = (chosen.regularisation, chosen.stacking) != (self.chosen.regularisation, self.chosen.stacking)
        return changed or more > _NOVELTY_GROWTH * fewer


@dataclass(frozen=True, slots=True)
class LearnerState:
    """The live version's encoder and the task models on it. `worker/updates/step_runner.py` alone replaces it.

    Args:
        version: the live version; 0 before there is one.
        encoder, encoder_folder, features: what makes semantic features of texts, and where the encoder's files lie.
        settings: the learner's.
        tasks: model of each task. Only `StepRunner`, and what builds a state, applies proposals to them.
        trained: digests of the texts that this encoder, or one that it descends from, was trained on.
        watermark: largest `seq` that was learned.
        encoder_watermark: largest `seq` that a consolidation has looked at, whether it came to something or not.
        made_with: what was chosen for encoder and features before any training; None if the version does not say.
        unsaved: samples that came or went since the last snapshot.
        novelty: of each task.
        alike: ids of samples that read the same as others with another label (`worker/screening/truncation.py`).
        lexical: what makes lexical features of texts; None where tasks have no lexical head.
        words: by task, what words must not answer alone.
        generation: a new number whenever something but an update of the heads made the state: another learner's
            version, a roll-back, changed labels, another encoder. What was remembered of an older one is void.
    """

    version: int
    encoder: Encoder
    encoder_folder: Path
    features: RandomFeatures
    settings: Settings
    tasks: Mapping[str, TaskModel] = field(default_factory=dict)
    trained: frozenset[str] = frozenset()
    watermark: int = 0
    encoder_watermark: int = 0
    made_with: EncoderOrigin | None = None
    unsaved: int = 0
    novelty: Mapping[str, TaskNovelty] = field(default_factory=dict)
    alike: frozenset[str] = frozenset()
    lexical: LexicalFeatures | None = None
    words: Mapping[str, WordsRules] = field(default_factory=dict)
    generation: int = 0

    @property
    def samples(self) -> int:
        """Samples learned, over all tasks."""
        return sum(model.samples for model in self.tasks.values())

    def model(self, task: str) -> TaskModel:
        """The model of a task; an empty one, which the state does not keep, where there is none."""
        return self.tasks.get(task) or self.new_model()

    @property
    def widths(self) -> dict[HeadName, int]:
        """The heads that a task has here, and how many features each of them takes."""
        widths: dict[HeadName, int] = {}
        if self.encoder.dimension:
            widths["semantic"] = self.features.width
        if self.lexical is not None:
            widths["lexical"] = self.lexical.width
        return widths

    @property
    def likeness(self) -> tuple[HeadName, int]:
        """By which texts are compared with each other: a head, and how many of its first features.

        These are z_0, the last layer's part of z, where there is an encoder, else all lexical ones. They have unit
        length.
        """
        return ("semantic", self.features.widened) if self.encoder.dimension else ("lexical", self.widths["lexical"])

    def new_model(self, chosen: Hyperparameters = UNFITTED) -> TaskModel:
        """An empty model on these features, with these lambdas."""
        precision, device = getattr(torch, self.settings.head_precision), choose_device(self.settings.device)
        heads = {
            name: RidgeHead(width, chosen.regularisation[name], dtype=precision, device=device)
            for name, width in self.widths.items()
        }
        return TaskModel(
            heads,
            evaluation_limit=self.settings.gate_items,
            balance=ClassBalance(self.settings.young_class_size, self.settings.prior_correction),
            emphasis_limit=self.settings.correction_emphasis,
        )

    def examples(self, samples: Sequence[Sample], embeddings: Mapping[str, Floats]) -> list[LabelledFeatures]:
        """Samples with their features, from their texts and from embeddings z (d,) by sample id."""
        if not samples:
            return []
        z = np.stack([embeddings[sample.id] for sample in samples])
        features = self.features_of([sample.text for sample in samples], z)
        return [
            LabelledFeatures(
                sample_id=sample.id,
                label=sample.label,
                # As it was learned: a sample that leaves is subtracted with the weight with which it came.
                weight=sample.weight * sample.emphasis,
                features={head: rows[row] for head, rows in features.items()},
                order=sample.text_digest,
                heldout=sample.split is Split.HELDOUT,
                golden=sample.split is Split.GOLDEN,
                pinned=sample.pinned,
                eligible=sample.text_digest not in self.trained and sample.id not in self.alike,
            )
            for row, sample in enumerate(samples)
        ]

    def features_of(self, texts: Sequence[str], z: Floats) -> dict[HeadName, torch.Tensor]:
        """Features (n, p) of texts for each head, from the texts and their embeddings z (n, d)."""
        features: dict[HeadName, torch.Tensor] = {}
        if self.encoder.dimension:
            features["semantic"] = torch.from_numpy(self.features.expand(z))
        if self.lexical is not None:
            features["lexical"] = torch.from_numpy(self.lexical.expand(texts))
        return features

    def heads(self, proposals: Mapping[str, Proposal], novelty: Mapping[str, TaskNovelty]) -> dict[str, ServedHeads]:
        """Heads of the next version: the proposed ones where there are some, the present ones elsewhere.

        `novelty` is that of `next_novelty`.
        """
        heads = {}
        for task in dict.fromkeys((*self.tasks, *proposals)):
            proposal = proposals.get(task)
            source = proposal or self.tasks[task]
            if not source.labels:
                continue
            stacked = source.stacked
            # Without an encoder there is one semantic feature, the constant, and it says nothing.
            weights = stacked.weights.get("semantic", stacked.offsets.new_zeros(1, len(source.labels)))
            semantic = LinearHead(source.labels, _served(weights), _served(stacked.offsets), source.temperature)
            lexical = None
            novel_words = novelty[task].words
            if self.lexical is not None and novel_words is not None:
                rules = self.words.get(task, WordsRules())
                loss = self.settings.fast_loss if rules.obstacle(source.samples) is None else None
                alone = words_alone(self.model(task), proposal, novel_words, loss, rules.kept.served)
                lexical = LexicalHead(self.lexical.size, _served(stacked.weights["lexical"]), stacked.stacking, alone)
            heads[task] = ServedHeads(semantic, novelty[task].novelty, lexical)
        return heads

    def next_novelty(self, proposals: Mapping[str, Proposal]) -> dict[str, TaskNovelty]:
        """Novelty of each task in the next version; the present one where the heads have hardly changed since it."""
        novelty = {}
        for task in dict.fromkeys((*self.tasks, *proposals)):
            model, proposal = self.model(task), proposals.get(task)
            if proposal is None and not model.labels:
                continue
            samples, chosen = (proposal or model).samples, (proposal or model).hyperparameters
            present = self.novelty.get(task)
            if present is None or present.is_outgrown(samples, chosen):
                words = None if self.lexical is None else lexical_novelty_of(model, proposal)
                present = TaskNovelty(novelty_of(model, self.features.widened, proposal), words, samples, chosen)
            novelty[task] = present
        return novelty


def _served(tensor: torch.Tensor) -> Floats:
    """Numbers as they are served, float32."""
    numbers: Floats = tensor.float().cpu().numpy()
    return numbers
