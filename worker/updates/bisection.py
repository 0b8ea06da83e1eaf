"""Which part of a refused batch does harm.

Parts are tried on a copy of the head, each together with all that was let in before it, and compared with the version
from before the batch by the tests that refused the whole. What is let in at last has passed the gate as one batch, so
no sequence of parts reaches what the whole was refused for. Only that becomes a version; nothing else is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog
import torch

from pawl.domain.gate_reports import GateReport
from pawl.domain.samples import Sample
from pawl.settings import Settings
from worker.model.change import ModelChange
from worker.model.class_balance import NEVER
from worker.model.evaluation_rows import balanced, evaluation_items
from worker.model.hyperparameters import temperature_of
from worker.model.proposal import PairedScores, Proposal
from worker.release.gate import Evidence, judge
from worker.release.overlap import excessive_overlaps
from worker.screening.conflict_resolution import Resolution
from worker.state.learned_samples import RANK_UPDATE_LIMIT, LearnedSamples
from worker.state.learner_state import LearnerState
from worker.updates.baseline import Baseline
from worker.updates.step import harm

MOST_TRIALS = 400
"""Parts that are tried of one batch. A group of which that is not enough to tell is kept out whole."""
_FINEST = 512
"""A batch is cut into so many pieces at most."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RefusedBatch:
    """The part of a refused batch that belongs to one task.

    Args:
        task, samples: what is to be learned of it.
        change: as it was proposed.
        resolution: says what each sample would replace.
        baseline: what it is compared with.
        charged: what it was refused for.
    """

    task: str
    samples: Sequence[Sample]
    change: ModelChange
    resolution: Resolution
    baseline: Baseline
    charged: Collection[str]


@dataclass(slots=True)
class Bisected:
    """What may be learned, as a proposal (None: nothing), and what does harm, id -> why."""

    proposal: Proposal | None = None
    taken: list[Sample] = field(default_factory=list)
    harmful: dict[str, str] = field(default_factory=dict)
    trials: int = 0


class Bisection:
    """Of one refused batch. `run` is called once. The live model does not change."""

    def __init__(self, state: LearnerState, batch: RefusedBatch, learned: LearnedSamples, settings: Settings) -> None:
        self._live = state.model(batch.task)
        self._batch = batch
        self._settings = settings
        self._result = Bisected()
        self._examples = {e.sample_id: e for e in (*batch.change.adds, *batch.change.removes)}
        self._absent: set[str] = set()
        self._accepted: Proposal | None = None
        self._emphasis: dict[str, float] = {}
        self._least = max(1, len(batch.samples) // _FINEST)
        # Room for all that is in the set and as many again (`_prepare`): were one crowded out between two trials, these
        # would be judged on different items.
        self._model = self._live.copy(evaluation_limit=2 * self._live.evaluation_limit)
        self._copied = replace(state, tasks={**state.tasks, batch.task: self._model})
        self._learned = learned

    async def run(self) -> Bisected:
        """Tries the batch, least opposed first.

        What is refused comes to lie together, and no harmless sample is refused because a wrong one before it has used
        up the loss that the gate allows.
        """
        await asyncio.to_thread(self._prepare)
        await self._try(self._units(await asyncio.to_thread(self._behind)))
        if self._accepted is not None:  # the copy, with all that was let in, is what comes after the live head
            after = self._live.becoming(self._model, self._accepted.paired)
            self._result.proposal = replace(after.at(self._accepted.temperature), emphasis=self._emphasis)
        counts = {"taken": len(self._result.taken), "harmful": len(self._result.harmful), "tried": self._result.trials}
        log.info("batch_searched", task=self._batch.task, **counts)
        return self._result

    def _prepare(self) -> None:
        """The evaluation set keeps all it has until the end, and takes in what the whole batch would have brought."""
        adds = [example for example in self._batch.change.adds if example.eligible]
        index = {label: column for column, label in enumerate(dict.fromkeys(example.label for example in adds))}
        entering = {adds[row].sample_id for row in balanced(evaluation_items(adds, index), self._live.evaluation_limit)}
        for example in self._batch.change.adds:
            if example.sample_id not in entering:
                self._examples[example.sample_id] = replace(example, eligible=False)

    def _units(self, behind: Mapping[str, float]) -> list[list[Sample]]:
        """What is tried together at the least: each sample; all samples of a label that is new."""
        known = {label for label, count in zip(self._live.labels, self._live.counts, strict=True) if count}
        units: dict[str, list[Sample]] = {}
        for sample in sorted(self._batch.samples, key=lambda sample: behind[sample.id]):
            units.setdefault(f"id {sample.id}" if sample.label in known else f"label {sample.label}", []).append(sample)
        return sorted(units.values(), key=lambda unit: sum(behind[sample.id] for sample in unit) / len(unit))

    def _behind(self) -> dict[str, float]:
        """By how far the live head's score of the label is behind that of its answer; one that it lacks scores 0."""
        model, behind = self._live, dict.fromkeys((sample.id for sample in self._batch.samples), 0.0)
        columns = {label: column for column, label in enumerate(model.labels)}
        if not columns:
            return behind
        rows = model.stacked.scores_for([self._examples[sample.id] for sample in self._batch.samples])
        for sample, scores in zip(self._batch.samples, rows, strict=True):
            best, column = float(scores.max()), columns.get(sample.label)
            behind[sample.id] = best - (min(best, 0.0) if column is None else float(scores[column]))
        return behind

    async def _try(self, units: Sequence[list[Sample]]) -> None:
        part = [sample for unit in units for sample in unit]
        report = await self._trial(part)
        if report.accepted:
            return
        reason = harm(self._batch.task, report)
        overlap = self._excessive_overlap(units, report)
        if overlap is not None:
            self._result.harmful |= dict.fromkeys((sample.id for sample in part), f"harms: {overlap}")
        elif len(part) <= self._least or self._result.trials >= MOST_TRIALS:
            why = f"{reason} (tried in a group of {len(part)}, not alone)" if len(part) > 1 else reason
            self._result.harmful |= dict.fromkeys((sample.id for sample in part), why)
        else:
            # The halves one after the other, not side by side: the second is tried on what was let in of the first, so
            # that their sum is what has passed.
            smaller = [[sample] for sample in part] if len(units) == 1 else units
            middle = len(smaller) // 2
            await self._try(smaller[:middle])
            await self._try(smaller[middle:])

    def _excessive_overlap(self, units: Sequence[list[Sample]], report: GateReport) -> str | None:
        """Why a new label, tried by itself, is refused for the texts that it takes; it is not halved then."""
        task_report = report.tasks.get(self._batch.task)
        if len(units) > 1 or task_report is None:
            return None
        return excessive_overlaps(task_report, self._settings).get(units[0][0].label)

    async def _trial(self, part: Sequence[Sample]) -> GateReport:
        """Judges a part with what is in already; one that passes is in from here on."""
        self._result.trials += 1
        change, everything = await self._change(part), [*self._result.taken, *part]
        bulk = len(change.adds) + len(change.removes) > RANK_UPDATE_LIMIT
        proposal = await asyncio.to_thread(self._model.propose, change, bulk=bulk)
        tried, report = await asyncio.to_thread(self._judge, proposal, everything)
        if not report.accepted:
            return report
        await asyncio.to_thread(self._model.apply, proposal)
        self._accepted = tried
        # Later trials re-weight what is in as members of its class, from the weight with which it came in: this one,
        # which includes its correction weight, and not the one that its client sent.
        self._emphasis |= proposal.emphasis
        for id, factor in proposal.emphasis.items():
            self._examples[id] = replace(self._examples[id], weight=self._examples[id].weight * factor)
        self._result.taken += part
        self._absent |= self._batch.resolution.removes(part).keys()  # SQL still calls these learned
        return report

    def _judge(self, proposal: Proposal, samples: Sequence[Sample]) -> tuple[Proposal, GateReport]:
        """The proposal as it compares with the version from before the batch, and what the gate says of it."""
        paired, temperature = self._measured(proposal, samples), self._live.temperature
        # As `StepRunner.propose` does for the whole: at the live temperature the calibration error would refuse it.
        if len(samples) > RANK_UPDATE_LIMIT:
            temperature = temperature_of(paired) or temperature
        served = [sample.served_label for sample in samples]
        evidence = Evidence(paired, self._live.temperature, temperature, served)
        task = self._batch.task
        report = judge({task: evidence}, self._settings, charged={task: self._batch.charged})
        return replace(proposal.at(temperature), paired=paired), report

    async def _change(self, part: Sequence[Sample]) -> ModelChange:
        """What the store would return, had it learned what is in already."""
        removes = list(self._batch.resolution.removes(part).values())
        members = await self._learned.members(self._copied, self._batch.task, part, removes, self._absent)
        for label in members:
            members[label] += [self._examples[sample.id] for sample in self._result.taken if sample.label == label]
        return ModelChange(
            [self._examples[sample.id] for sample in part],
            [self._examples[sample.id] for sample in removes if sample.id in self._examples],
            members,
            self._batch.change.corrections,
        )

    def _measured(self, proposal: Proposal, samples: Sequence[Sample]) -> PairedScores:
        """Against the version from before the batch: on the evaluation set, and on all that is in or tried."""
        before = self._batch.baseline
        examples = [self._examples[sample.id] for sample in samples]
        known = before.head.scores_for(examples)
        return replace(
            before.measure(proposal.paired, self._examples),
            new_targets=torch.tensor([proposal.labels.index(sample.label) for sample in samples]),
            new_live=torch.nn.functional.pad(known, (0, len(proposal.labels) - known.shape[1]), value=NEVER),
            new_candidate=proposal.stacked.scores_for(examples),
        )
