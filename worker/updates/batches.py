"""Which samples are judged together, and what against.

A lot is what came in one request or in one import, however the stream delivers it and whatever `bulk_batch` is. What
was refused and comes again is measured with all that is in of the lot it was refused with: against the head without
these. So no sequence of deliveries or releases reaches what the lot was refused for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from pawl.domain.samples import Sample, SampleState
from pawl.ports import SampleStore, VersionLedger
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.updates.baseline import Standard, standard_of, standard_without
from worker.updates.step import Step

Pages = AsyncIterator[Sequence[Sample]]
_ASKED = 100
"""Samples of a lot that are asked what they were refused for."""
JUDGED_TOGETHER = 20_000
"""Most samples of an import that are judged at once: as many as the first version takes, about 400 MB while it lasts.
Of a larger one the parts are judged one after the other, each with those before it, against the version before all.
"""


@dataclass(frozen=True, slots=True)
class Lot:
    """Samples that are judged together; `standards` (by task) where parts of the lot are in already, `charged` what
    parts of it were refused for, and `forced` the reason of an owner who wants them whatever the gate finds.
    """

    samples: Sequence[Sample]
    standards: dict[str, Standard] = field(default_factory=dict)
    charged: dict[str, set[str]] = field(default_factory=dict)
    forced: str | None = None

    def measured(self, step: Step) -> Step:
        """The step, judged against the standards where there are some."""
        candidates = dict(step.candidates)
        for task, standard in self.standards.items():
            if task in candidates:
                arrivals = {one.sample_id: one for one in step.changes[task].adds}
                paired = standard.measure(candidates[task].paired, arrivals)
                candidates[task] = replace(candidates[task], paired=paired)
        return replace(step, candidates=candidates, charged=self.charged, forced=self.forced, reason=self.forced)


class Lots:
    """Puts lots together. Driven by the coroutine that drives `Learning`."""

    def __init__(self, samples: SampleStore, ledger: VersionLedger, recovery: Recovery) -> None:
        self._samples = samples
        self._ledger = ledger
        self._recovery = recovery
        self._begun: tuple[str, dict[str, Standard]] | None = None

    def forget(self) -> None:
        """Heads or labels were changed by somebody else: what they were before is worked out again."""
        self._begun = None

    def split(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        """By import; what was refused before and released apart from what comes for the first time."""
        parts: dict[str, list[Sample]] = {}
        for sample in samples:
            queued = sample.state is SampleState.QUEUED
            released = "released" if queued and sample.reviewed_at is not None else ""
            parts.setdefault((queued and sample.import_id) or released, []).append(sample)
        return list(parts.values())

    async def gather(self, state: LearnerState, own: Sequence[Sample], *, alone: bool) -> Lot:
        """The lot that some samples, one part of `split`, belong to."""
        first = own[0]
        if first.state is not SampleState.QUEUED or (first.import_id is None and first.reviewed_at is None):
            return Lot(own)
        if first.import_id is None:
            charged = await self._charged(own)
            return Lot(own, await self._standards(state, own, self._refused_with), charged)
        import_id = first.import_id
        if not alone:
            own = await self._samples.of_import(import_id, SampleState.QUEUED, JUDGED_TOGETHER)
        known = await self._samples.imports([import_id])
        forced = known[import_id].accept_reason if import_id in known else None
        if self._begun is not None and self._begun[0] == import_id:
            standards = self._begun[1]
        else:
            standards = await self._standards(state, own, self._imported)
        self._begun = None
        if len(own) == JUDGED_TOGETHER:  # more of it will come
            tasks = {sample.task for sample in own}
            before = {task: await asyncio.to_thread(standard_of, state.task(task)) for task in tasks}
            self._begun = import_id, before | standards
        held = await self._samples.of_import(import_id, SampleState.QUARANTINED, _ASKED)
        released = [sample for sample in own if sample.reviewed_at is not None][:_ASKED]
        return Lot(own, standards, await self._charged([*held, *released]), forced)

    async def _charged(self, samples: Sequence[Sample]) -> dict[str, set[str]]:
        """By task, what versions with these samples were refused for."""
        found: dict[str, set[str]] = {}
        for number in await self._ledger.refusals_of([sample.id for sample in samples]):
            for task, names in (await self._ledger.get(number)).gate.get("charges", {}).items():
                found.setdefault(task, set()).update(names)
        return found

    async def _standards(
        self, state: LearnerState, own: Sequence[Sample], others: Callable[[Sequence[Sample]], Pages]
    ) -> dict[str, Standard]:
        """By task, the head as it would be without the others; nothing where there are no others."""
        found = {}
        for task in sorted({sample.task for sample in own}):
            pages = _learned(task, others(own))
            standard = await standard_without(state, self._recovery, task, pages)
            if standard is not None:
                found[task] = standard
        return found

    async def _imported(self, own: Sequence[Sample]) -> Pages:
        after = 0
        while page := await self._samples.of_import(str(own[0].import_id), SampleState.LEARNED, JUDGED_TOGETHER, after):
            after = page[-1].seq
            yield page

    async def _refused_with(self, own: Sequence[Sample]) -> Pages:
        yield await self._samples.get_many(await self._ledger.refused_with([sample.id for sample in own]))


async def _learned(task: str, pages: Pages) -> Pages:
    async for page in pages:
        if theirs := [one for one in page if one.task == task and one.state is SampleState.LEARNED]:
            yield theirs
