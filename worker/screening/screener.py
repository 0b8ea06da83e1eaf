"""Asks head, evaluation set and store about arriving labels, and remembers what it saw across restarts.

What was seen before comes back from the store: the newest feedback of a task with what was said against it, which is
written in the transaction that learns or holds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

import structlog
import torch

from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import Origin, Sample, SampleState
from pawl.ports import Floats, SampleStore
from pawl.settings import Settings
from worker.model.change import LabelledFeatures
from worker.model.task_model import TaskModel
from worker.screening.conflict_resolution import Resolution
from worker.screening.label_noise import NoiseDetector
from worker.screening.observations import ArrivingLabel, Confusion, NoiseVerdict, RememberedLabel
from worker.state.learner_state import LearnerState

log = structlog.get_logger(__name__)
Features = Mapping[str, LabelledFeatures]
"""By sample id."""


class Screener:
    """Screens what is to be learned. One coroutine drives it."""

    def __init__(self, samples: SampleStore, settings: Settings) -> None:
        self._samples = samples
        self._settings = settings
        self._detectors: dict[str, NoiseDetector] = {}
        self._generation = -1

    async def screen(
        self, state: LearnerState, resolution: Resolution, around: Sequence[Sample], features: Features
    ) -> NoiseVerdict:
        """Holds what is not to be learned (in the store, at once) and says what, and what else is to leave the heads.

        Args:
            state: the live one.
            resolution: what is to be learned.
            around: the samples that it was resolved from. An older label that a held one would have replaced stays:
                queued, for the next sweep.
            features: of what is to be learned.
        """
        if self._generation != state.generation:  # somebody else learned, or the features are others: read it again
            self._detectors.clear()
            self._generation = state.generation
        verdict = NoiseVerdict(self._conflicts(resolution, around))
        for task in sorted({sample.task for sample in resolution.adds}):
            adds = [sample for sample in resolution.adds if sample.task == task]
            of_task = await self._judge(state, task, adds, features)
            verdict.holds.update(of_task.holds)
            verdict.doubts.update(of_task.doubts)
            verdict.pulls.update(await self._in_heads(of_task.pulls))
        if verdict.holds:
            await self._samples.hold(verdict.holds, verdict.doubts)
            reasons = sorted({hold.reason for hold in verdict.holds.values()})
            log.warning("samples_held", samples=len(verdict.holds), reasons=reasons[:5])
        return verdict

    def _conflicts(self, resolution: Resolution, around: Sequence[Sample]) -> dict[str, Hold]:
        """Labels that contradict another source's label for the same text, where the settings hold these (ADR 0004)."""
        if self._settings.conflict == "newest":
            return {}
        waiting = {sample.id: sample for sample in around}
        losers: dict[str, list[Sample]] = {sample_id: list(old) for sample_id, old in resolution.replaced.items()}
        for sample_id, newer in resolution.dropped.items():
            losers.setdefault(newer, []).append(waiting[sample_id])
        holds = {}
        for sample in resolution.adds:
            rivals = [rival for rival in losers.get(sample.id, ()) if rival.source != sample.source]
            if rivals and sample.reviewed_at is None:
                rival = rivals[-1]
                reason = (
                    f"{_named(sample.source)} calls this text {sample.label}, {_named(rival.source)} called it "
                    f"{rival.label} before ({rival.id})"
                )
                holds[sample.id] = Hold(QuarantineKind.CONFLICT, reason)
        return holds

    async def _judge(self, state: LearnerState, task: str, adds: Sequence[Sample], features: Features) -> NoiseVerdict:
        model = state.tasks.get(task)
        if model is None or not model.samples or not self._settings.quarantine_window:
            return NoiseVerdict()
        detector = self._detectors.get(task)
        if detector is None:
            detector = NoiseDetector(self._settings, await self._remembered(state, task))
            self._detectors[task] = detector
        detector.clear([sample.id for sample in adds if sample.reviewed_at is not None])
        fed = [sample for sample in adds if sample.reviewed_at is None and sample.origin is Origin.FEEDBACK]
        fed = [sample for sample in fed if sample.id not in state.alike]  # the head speaks of what both begin with
        if not fed:
            return NoiseVerdict()
        examples = [features[sample.id] for sample in fed]
        return await asyncio.to_thread(_opinion, state, model, detector, fed, examples)

    async def _remembered(self, state: LearnerState, task: str) -> list[RememberedLabel]:
        screened = await self._samples.screened(task, self._settings.quarantine_window)
        opposed = [sample for sample in screened if sample.doubt is not None and sample.doubt.opposed]
        embeddings = await self._samples.get_embeddings(state.encoder.digest, [sample.id for sample in opposed])
        known = [sample for sample in opposed if sample.id in embeddings]
        examples = await asyncio.to_thread(state.examples, known, embeddings)
        vectors = {example.sample_id: _vector(state, example) for example in examples}
        return [_remembered(sample, vectors.get(sample.id)) for sample in screened]

    async def _in_heads(self, pulls: Mapping[str, Hold]) -> dict[str, Hold]:
        """Of these, the ones that are learned now: others were replaced, retracted or taken out before."""
        samples = await self._samples.get_many(list(pulls)) if pulls else []
        return {sample.id: pulls[sample.id] for sample in samples if sample.state is SampleState.LEARNED}


def _remembered(sample: Sample, z: Floats | None) -> RememberedLabel:
    is_cleared = sample.reviewed_at is not None and sample.state is SampleState.LEARNED
    return RememberedLabel(sample.id, sample.source, sample.label, None if is_cleared else sample.doubt, z)


def _vector(state: LearnerState, example: LabelledFeatures) -> Floats:
    """What a sample is compared with others by."""
    head, size = state.likeness
    vector: Floats = example.features[head][:size].clone().numpy()  # no view: the detector keeps some of these
    return vector


def _opinion(
    state: LearnerState,
    model: TaskModel,
    detector: NoiseDetector,
    samples: Sequence[Sample],
    examples: Sequence[LabelledFeatures],
) -> NoiseVerdict:
    trusted = _TrustedEvaluation(model, state, detector.suspects)
    scores = model.stacked.scores_for(examples)
    arriving = []
    for sample, row, example in zip(samples, scores, examples, strict=True):
        vector = _vector(state, example)
        # A label that the head does not have is taken as behind all that it has.
        score = row[model.labels.index(sample.label)] if sample.label in model.labels else row.min()
        neighbours, gold = trusted.near(vector, without=sample.text_digest)
        answer = model.labels[int(row.argmax())]
        margin, rank = float(row.max() - score), int((row > score).sum())
        arriving.append(
            ArrivingLabel(sample.id, sample.source, sample.label, answer, margin, rank, neighbours, vector, gold)
        )
    counts = {label: count for label, count in zip(model.labels, model.counts, strict=True) if count}
    return detector.judge(arriving, counts, trusted.confusion)


class _TrustedEvaluation:
    """The evaluation set without suspects: neighbours, gold, and how often two labels are confused.

    Cosines are those of the features of `LearnerState.likeness`.
    """

    def __init__(self, model: TaskModel, state: LearnerState, suspects: Collection[str]) -> None:
        self._model = model
        self._settings = state.settings
        items = model.evaluation.items
        self._rows = [row for row, item in enumerate(items) if item.sample_id not in suspects]
        self._labels = [model.labels[items[row].class_index] for row in self._rows]
        self._digests = [items[row].order for row in self._rows]
        whole = len(self._rows) == len(items)  # as most often: then nothing is copied
        head, size = state.likeness
        self._z = model.evaluation.features(head)[slice(None) if whole else self._rows, :size]
        self._errors: list[tuple[str, str, bool]] | None = None

    def near(self, z: Floats, *, without: str) -> tuple[tuple[str, ...], str | None]:
        """Labels of the nearest (other than the same text, unless it is golden), and of the nearest near-gold."""
        if not self._rows:
            return (), None
        cosines = self._z @ torch.from_numpy(z).to(self._z)
        # Two more than are asked for: the text itself may be among the nearest, and is passed over below.
        order = cosines.topk(min(len(cosines), self._settings.quarantine_neighbours + 2)).indices.tolist()
        items = self._model.evaluation.items
        golden = [
            self._labels[at]
            for at in order
            if items[self._rows[at]].golden and float(cosines[at]) >= self._settings.quarantine_similarity
        ]
        others = [self._labels[at] for at in order if self._digests[at] != without]
        return tuple(others[: self._settings.quarantine_neighbours]), golden[0] if golden else None

    def confusion(self, answer: str, label: str) -> Confusion:
        """How its samples of a label fare without their own; opposed as arriving ones are."""
        if self._errors is None:
            self._errors = self._left_out_errors()
        of_label = [(said, opposed) for wanted, said, opposed in self._errors if wanted == label]
        usual = (sum(opposed for *_, opposed in self._errors) + 0.5) / (len(self._errors) + 2)
        return Confusion(self._labels.count(label), len(of_label), of_label.count((answer, True)), usual)

    def _left_out_errors(self) -> list[tuple[str, str, bool]]:
        """(label, answer, whether it is opposed) of each sample that the head would get wrong without it."""
        scores = self._model.leave_one_out()[self._rows]
        columns = torch.tensor([self._model.labels.index(label) for label in self._labels])
        best, scored = scores.max(1), scores.gather(1, columns[:, None])[:, 0]
        errors = []
        for at in torch.nonzero(best.values > scored)[:, 0].tolist():
            answer, label = self._model.labels[int(best.indices[at])], self._labels[at]
            far = float(best.values[at] - scored[at]) >= self._settings.quarantine_margin
            errors.append((label, answer, far and self._backs(at, answer, label)))
        return errors

    def _backs(self, at: int, answer: str, label: str) -> bool:
        neighbours, _ = self.near(self._z[at].float().cpu().numpy(), without=self._digests[at])
        return label not in neighbours and 2 * neighbours.count(answer) > self._settings.quarantine_neighbours


def _named(source: str | None) -> str:
    return "an unnamed source" if source is None else f"`{source}`"
