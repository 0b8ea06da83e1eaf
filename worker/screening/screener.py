"""The screen at work: asks head, panel and store about arriving samples, and remembers across restarts.

What was seen before comes back from the store: the newest feedback of a task with what was said against it, which is
written in the transaction that learns or holds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
import torch

from pawl.domain.quarantine import Doubt, Hold, QuarantineKind
from pawl.domain.samples import REPLACED, Origin, Sample, SampleState
from pawl.ports import Floats, SampleStore
from pawl.settings import Settings
from worker.model.task_model import TaskModel
from worker.screening.conflict_resolution import Intake
from worker.screening.label_noise import Screen
from worker.screening.observations import Arrival, Confusion, Seen, Verdict
from worker.state.learner_state import LearnerState, embeddings_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Screened:
    """What is left of an intake, what leaves the heads, and what is to be kept with what is learned."""

    adds: list[Sample]
    dropped: dict[str, str]
    pulls: dict[str, Hold] = field(default_factory=dict)
    doubts: dict[str, Doubt] = field(default_factory=dict)


class Screening:
    """Screens what is to be learned. One coroutine drives it, the one that drives `Learning`."""

    def __init__(self, samples: SampleStore, settings: Settings) -> None:
        self._samples = samples
        self._settings = settings
        self._screens: dict[str, Screen] = {}
        self._encoder = ""

    def forget(self) -> None:
        """Somebody else learned or rolled back: what was seen is read from the store again."""
        self._screens.clear()

    async def screen(self, state: LearnerState, intake: Intake, around: Sequence[Sample]) -> Screened:
        """Holds what is not to be learned (in the store, at once) and says what is left.

        `around` are the samples that the intake was sorted out of. An older label that a held one would have replaced
        stays: queued, for the next sweep.
        """
        holds = self._conflicts(intake, around)
        doubts: dict[str, Doubt] = {}
        pulls: dict[str, Hold] = {}
        if self._encoder != state.encoder.digest:  # vectors of another encoder say nothing here
            self.forget()
            self._encoder = state.encoder.digest
        for task in sorted({sample.task for sample in intake.adds}):
            verdict = await self._judge(state, task, [one for one in intake.adds if one.task == task])
            holds |= verdict.holds
            doubts |= verdict.doubts
            pulls |= verdict.pulls
        if holds:
            await self._samples.hold(holds, doubts)
            log.warning("samples_held", samples=len(holds), reasons=sorted({one.reason for one in holds.values()})[:5])
        losers = {f"{REPLACED}{sample_id}" for sample_id in holds}
        return Screened(
            [one for one in intake.adds if one.id not in holds],
            {sample_id: reason for sample_id, reason in intake.dropped.items() if reason not in losers},
            await self._in_heads(pulls),
            doubts,
        )

    def _conflicts(self, intake: Intake, around: Sequence[Sample]) -> dict[str, Hold]:
        """Labels that contradict another source's label for the same text, where the settings hold these (ADR 0004)."""
        if self._settings.conflict == "newest":
            return {}
        waiting = {one.id: one for one in around}
        losers: dict[str, list[Sample]] = {sample_id: list(old) for sample_id, old in intake.replaced.items()}
        for sample_id, reason in intake.dropped.items():
            losers.setdefault(reason.removeprefix(REPLACED), []).append(waiting[sample_id])
        holds = {}
        for sample in intake.adds:
            others = [one for one in losers.get(sample.id, ()) if one.source != sample.source]
            if others and sample.reviewed_at is None:
                said = others[-1]
                reason = (
                    f"{_named(sample.source)} calls this text {sample.label}, {_named(said.source)} called it "
                    f"{said.label} before ({said.id})"
                )
                holds[sample.id] = Hold(QuarantineKind.CONFLICT, reason)
        return holds

    async def _judge(self, state: LearnerState, task: str, adds: Sequence[Sample]) -> Verdict:
        learner = state.tasks.get(task)
        if learner is None or not learner.samples or not self._settings.quarantine_window:
            return Verdict()
        screen = self._screens.get(task)
        if screen is None:
            screen = self._screens[task] = Screen(self._settings, await self._remembered(state, task))
        screen.clear([one.id for one in adds if one.reviewed_at is not None])
        mine = [one for one in adds if one.reviewed_at is None and one.origin is Origin.FEEDBACK]
        mine = [one for one in mine if one.id not in state.alike]  # the head speaks of what both texts begin with
        if not mine:
            return Verdict()
        embeddings = await embeddings_of(state, self._samples, mine)
        z = np.stack([embeddings[one.id] for one in mine])
        return await asyncio.to_thread(_opinion, state, learner, screen, mine, z)

    async def _remembered(self, state: LearnerState, task: str) -> list[Seen]:
        found = await self._samples.screened(task, self._settings.quarantine_window)
        opposed = [one.id for one in found if one.doubt is not None and one.doubt.opposed]
        embeddings = await self._samples.get_embeddings(state.encoder.digest, opposed)
        part = state.features.widened
        return [_seen(one, {id: z[:part] for id, z in embeddings.items()}) for one in found]

    async def _in_heads(self, pulls: Mapping[str, Hold]) -> dict[str, Hold]:
        """Of these, the ones that are learned now: others were replaced, retracted or taken out before."""
        found = await self._samples.get_many(list(pulls)) if pulls else []
        return {one.id: pulls[one.id] for one in found if one.state is SampleState.LEARNED}


def _seen(sample: Sample, embeddings: Mapping[str, Floats]) -> Seen:
    cleared = sample.reviewed_at is not None and sample.state is SampleState.LEARNED
    return Seen(sample.id, sample.source, sample.label, None if cleared else sample.doubt, embeddings.get(sample.id))


def _opinion(state: LearnerState, learner: TaskModel, screen: Screen, samples: Sequence[Sample], z: Floats) -> Verdict:
    asked = _Witnesses(learner, state.settings, screen.suspects, state.features.widened)
    features = torch.from_numpy(state.features.expand(z)).to(learner.head.weights)
    scores = features @ learner.head.weights + learner.offsets(learner.counts)
    arrivals = []
    for sample, row, vector in zip(samples, scores, z[:, : state.features.widened], strict=True):
        own = row[learner.labels.index(sample.label)] if sample.label in learner.labels else row.min()
        neighbours, gold = asked.near(vector, without=sample.text_digest)
        answer = learner.labels[int(row.argmax())]
        margin, rank = float(row.max() - own), int((row > own).sum())
        arrivals.append(Arrival(sample.id, sample.source, sample.label, answer, margin, rank, neighbours, vector, gold))
    counts = {label: count for label, count in zip(learner.labels, learner.counts, strict=True) if count}
    return screen.judge(arrivals, counts, asked.confusion)


class _Witnesses:
    """The panel without suspects: neighbours, gold, and how often two labels are confused.

    Cosines are those of the last layer's part of z, the first `dimension` numbers, which have unit length.
    """

    def __init__(self, learner: TaskModel, settings: Settings, suspects: Collection[str], dimension: int) -> None:
        self._learner = learner
        self._settings = settings
        items = learner.evaluation.items
        self._rows = [row for row, item in enumerate(items) if item.sample_id not in suspects]
        self._labels = [learner.labels[items[row].class_index] for row in self._rows]
        self._digests = [items[row].order for row in self._rows]
        whole = len(self._rows) == len(items)  # as most often: then nothing is copied
        self._z = learner.evaluation.features[slice(None) if whole else self._rows, :dimension]
        self._errors: list[tuple[str, str, bool]] | None = None

    def near(self, z: Floats, *, without: str) -> tuple[tuple[str, ...], str | None]:
        """Labels of the nearest (other than the same text, unless it is golden), and of the nearest near-gold."""
        if not self._rows:
            return (), None
        cosines = self._z @ torch.from_numpy(z).to(self._z)
        order = cosines.topk(min(len(cosines), self._settings.quarantine_neighbours + 2)).indices.tolist()
        items = self._learner.evaluation.items
        golden = [
            self._labels[at]
            for at in order
            if items[self._rows[at]].golden and float(cosines[at]) >= self._settings.quarantine_similarity
        ]
        others = [self._labels[at] for at in order if self._digests[at] != without]
        return tuple(others[: self._settings.quarantine_neighbours]), golden[0] if golden else None

    def confusion(self, answer: str, label: str) -> Confusion:
        """How the panel's samples of a label fare without their own; opposed as arriving ones are."""
        if self._errors is None:
            self._errors = self._left_out_errors()
        of_label = [(said, opposed) for wanted, said, opposed in self._errors if wanted == label]
        usual = (sum(opposed for *_, opposed in self._errors) + 0.5) / (len(self._errors) + 2)
        return Confusion(self._labels.count(label), len(of_label), of_label.count((answer, True)), usual)

    def _left_out_errors(self) -> list[tuple[str, str, bool]]:
        """(label, answer, whether it is opposed) of each sample that the head would get wrong without it."""
        scores = self._learner.leave_one_out()[self._rows]
        columns = torch.tensor([self._learner.labels.index(label) for label in self._labels])
        best, own = scores.max(1), scores.gather(1, columns[:, None])[:, 0]
        errors = []
        for at in torch.nonzero(best.values > own)[:, 0].tolist():
            answer, label = self._learner.labels[int(best.indices[at])], self._labels[at]
            far = float(best.values[at] - own[at]) >= self._settings.quarantine_margin
            errors.append((label, answer, far and self._backs(at, answer, label)))
        return errors

    def _backs(self, at: int, answer: str, label: str) -> bool:
        neighbours, _ = self.near(self._z[at].float().cpu().numpy(), without=self._digests[at])
        return label not in neighbours and 2 * neighbours.count(answer) > self._settings.quarantine_neighbours


def _named(source: str | None) -> str:
    return "an unnamed source" if source is None else f"`{source}`"
