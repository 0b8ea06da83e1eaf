"""What the learner reads of samples: their features, and the learned ones that a change of a head concerns.

Samples in state `learned` are exactly the members of the live version's heads, because a promotion changes them in
the transaction that makes the version live. Where more are learned than `coreset` allows, those without an embedding
under the live encoder are not in the heads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import numpy as np

from pawl.classifier.encoders.tokenization import encode_with_cuts
from pawl.domain.samples import Sample
from pawl.ports import Floats, SampleStore
from pawl.settings import Settings
from worker.model.change import LabelledFeatures, ModelChange
from worker.state.learner_state import LearnerState

_PAGE = 2000
_ENCODE_CHUNK = 512
RANK_UPDATE_LIMIT = 512
"""Samples beyond which a refit from the statistics is cheaper than a rank-k update."""
Members = dict[str, list[LabelledFeatures]]
"""Label -> learned samples whose weight changes when the class grows or shrinks."""


class LearnedSamples:
    """Reads samples with their features, under the encoder of the state that each call is given."""

    def __init__(self, samples: SampleStore, settings: Settings) -> None:
        self._samples = samples
        self._settings = settings

    async def features(self, state: LearnerState, samples: Sequence[Sample]) -> list[LabelledFeatures]:
        """Features of samples, in their order. Texts that were never embedded are, and the embeddings are kept."""
        return state.examples(samples, await embeddings_of(state, self._samples, samples) if samples else {})

    async def change(
        self,
        state: LearnerState,
        task: str,
        adds: Sequence[Sample],
        removes: Sequence[Sample],
        *,
        known: Mapping[str, LabelledFeatures] | None = None,
        absent: Collection[str] = (),
    ) -> ModelChange:
        """A change of one task, with the members whose weight it changes.

        Members are read from SQL; whether `adds` are marked learned there already makes no difference.

        Args:
            state: the live one, or a copy without `absent`.
            task: of all samples.
            adds: what enters.
            removes: what leaves.
            known: features by sample id, of those whose features were read before.
            absent: ids of learned samples that the state does not hold.
        """
        known = known or {}
        if task in state.tasks and state.tasks[task].samples > self._settings.coreset:
            # Not every learned sample is in the head then; one that is not must not be subtracted from it.
            removes = await self._in_head(state, removes)
        missing = [sample for sample in (*adds, *removes) if sample.id not in known]
        features = {**known, **{e.sample_id: e for e in await self.features(state, missing)}}
        return ModelChange(
            adds=[features[sample.id] for sample in adds],
            removes=[features[sample.id] for sample in removes],
            members=await self.members(state, task, adds, removes, absent),
        )

    async def members(
        self,
        state: LearnerState,
        task: str,
        adds: Sequence[Sample],
        removes: Sequence[Sample],
        absent: Collection[str] = (),
    ) -> Members:
        """The learned samples whose weight a change changes; see `change`."""
        if task not in state.tasks:
            return {}
        moving = {*absent, *(sample.id for sample in (*adds, *removes))}
        labels = state.tasks[task].reweighted_labels([s.label for s in adds], [s.label for s in removes])
        # All of the class: where its weight changes it has fewer than `young_class_size` samples before or after.
        limit = self._settings.young_class_size + len(moving) + 1
        members = {}
        for label in labels:
            rows = await self._samples.learned_with_label(task, label, limit)
            members[label] = await self.features(state, [sample for sample in rows if sample.id not in moving])
        return members

    async def of_label(
        self, state: LearnerState, task: str, label: str
    ) -> AsyncIterator[tuple[list[str], list[LabelledFeatures]]]:
        """The learned samples of a label, page by page: the ids of all, and those that are in the head."""
        after = 0
        is_partial = state.tasks[task].samples > self._settings.coreset
        while page := await self._samples.learned_with_label(task, label, _PAGE, after):
            after = page[-1].seq
            members = await self._in_head(state, page) if is_partial else page
            yield [sample.id for sample in page], await self.features(state, members)

    async def in_head(self, state: LearnerState, task: str) -> AsyncIterator[list[Sample]]:
        """The samples that belong into a task's head, by `seq`, page by page."""
        is_partial = sum((await self._samples.label_counts(task)).values()) > self._settings.coreset
        async for page in self.pages(task):
            yield await self._in_head(state, page) if is_partial else page

    async def pages(self, task: str) -> AsyncIterator[list[Sample]]:
        """All learned samples of a task by `seq`, page by page."""
        after = 0
        while page := await self._samples.learned(task, after, _PAGE):
            after = page[-1].seq
            yield page

    async def embedded(self, state: LearnerState, samples: Sequence[Sample] | None = None) -> AsyncIterator[Floats]:
        """Embeddings (n, d), page by page, of samples; of all that belong into a head, unless given."""
        if samples is None:
            for task in await self._samples.tasks():
                async for page in self.in_head(state, task):
                    embeddings = await embeddings_of(state, self._samples, page)
                    if embeddings:
                        yield np.stack(list(embeddings.values()))
            return
        for start in range(0, len(samples), _PAGE):
            embeddings = await embeddings_of(state, self._samples, samples[start : start + _PAGE])
            yield np.stack(list(embeddings.values()))

    async def counts(self, state: LearnerState, task: str) -> Counter[str]:
        """Samples of each label that belong into a task's head."""
        learned = Counter(await self._samples.label_counts(task))
        if learned.total() <= self._settings.coreset:
            return learned
        counts: Counter[str] = Counter()
        async for page in self.in_head(state, task):
            counts.update(sample.label for sample in page)
        return counts

    async def _in_head(self, state: LearnerState, samples: Sequence[Sample]) -> list[Sample]:
        embedded = await self._samples.get_embeddings(state.encoder.digest, [sample.id for sample in samples])
        return [sample for sample in samples if sample.id in embedded]


async def embeddings_of(state: LearnerState, store: SampleStore, samples: Sequence[Sample]) -> dict[str, Floats]:
    """Embeddings z of samples, by id, under the state's encoder; missing ones are computed and written to the store.

    They are written before a version is promoted on them: after a restart "learned and has an embedding" is what being
    in the head means.
    """
    embeddings = dict(await store.get_embeddings(state.encoder.digest, [sample.id for sample in samples]))
    missing = [sample for sample in samples if sample.id not in embeddings]
    for start in range(0, len(missing), _ENCODE_CHUNK):  # a chunk at a time: a stop or a crash keeps what is done
        chunk = missing[start : start + _ENCODE_CHUNK]
        z, cuts = await asyncio.to_thread(encode_with_cuts, state.encoder, [sample.text for sample in chunk])
        fresh = {sample.id: row for sample, row in zip(chunk, z, strict=True)}
        await store.put_embeddings(state.encoder.digest, fresh, {chunk[row].id: cut for row, cut in cuts.items()})
        embeddings |= fresh
    return embeddings
