"""From a newly trained encoder to a version: heads refitted on its features, judged against the live, published."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch

from app.core.domain.versions import LedgerChange, Version, VersionKind
from app.core.ports import Encoder, SampleStore, VersionLedger
from app.core.settings import Settings
from app.core.settings.consolidation import ConsolidationSettings
from worker.gate import Evidence, judge
from worker.learner import TaskLearner
from worker.learning import Learning
from worker.proposals import Judged
from worker.publisher import Draft, Publisher
from worker.recovery import Recovery
from worker.selection import choose_regularisation, choose_temperature
from worker.state import LearnerState

_TIMED_TEXTS = 64
_TIMED_ROUNDS = 3
log = structlog.get_logger(__name__)


class Succession:
    """Replaces the encoder under all heads, if the gate agrees."""

    def __init__(
        self,
        samples: SampleStore,
        ledger: VersionLedger,
        publisher: Publisher,
        recovery: Recovery,
        settings: Settings,
    ) -> None:
        self._samples = samples
        self._ledger = ledger
        self._publisher = publisher
        self._recovery = recovery
        self._settings = settings

    async def take_over(
        self, learning: Learning, encoder: Encoder, folder: Path, result: Mapping[str, Any], trigger: str
    ) -> Version:
        """Refits, judges and publishes. Samples that came since the child started are in: the heads are made of all.

        Raises `ParentNotLive` when the live version changed meanwhile.
        """
        live = learning.state
        if live is None:
            raise RuntimeError("there is no live version to succeed")
        version = await self._ledger.get(live.version)
        new = LearnerState(
            live.version,
            encoder,
            folder,
            live.features,
            self._settings,
            trained=live.trained | await self._recovery.digests([*map(str, result["trained"])]),
        )
        begun = time.perf_counter()
        await self._recovery.rebuild(new, version)
        for learner in new.tasks.values():
            value = await asyncio.to_thread(choose_regularisation, learner)
            if value is not None:
                (await asyncio.to_thread(learner.propose_regularisation, value)).commit()
            learner.temperature = await asyncio.to_thread(choose_temperature, learner)
        new.novelty = await asyncio.to_thread(new.ranked, {})
        refit = time.perf_counter() - begun
        written = await self._publisher.write(self._draft(live, new, result, trigger, refit))
        evidence = {
            task: Evidence(_compare(old, new.tasks[task]), old.temperature, new.tasks[task].temperature, [])
            for task, old in live.tasks.items()
            if task in new.tasks
        }
        ratio = await self._latency_ratio(live, new)
        report = judge(evidence, self._settings, size_bytes=written.size_bytes, latency_ratio=ratio)
        if not report.accepted:
            live.encoder_watermark = int(result["watermark"])  # tried: not again for the same samples
            return await self._publisher.refuse(written, report, {})
        promoted = await self._publisher.promote(
            written, report, LedgerChange(trained=tuple(map(str, result["trained"])))
        )
        new.version, new.unsaved = promoted.number, self._settings.snapshot_every
        new.encoder_watermark = int(result["watermark"])
        new.encoder_folder = self._publisher.encoder_folder(promoted.number)
        learning.state = new
        await self._samples.drop_embeddings([encoder.digest, live.encoder.digest])
        log.info("consolidated", version=promoted.number, trained=len(result["trained"]))
        return promoted

    def _draft(
        self, live: LearnerState, new: LearnerState, result: Mapping[str, Any], trigger: str, refit_seconds: float
    ) -> Draft:
        chosen = {
            "regularisation": {name: one.head.regularisation for name, one in new.tasks.items()},
            "regularisation_chosen_at": {name: one.regularisation_chosen_at for name, one in new.tasks.items()},
        }
        training = {*ConsolidationSettings.model_fields}
        return Draft(
            kind=VersionKind.CONSOLIDATION,
            trigger=trigger,
            parent=live.version,
            encoder_folder=new.encoder_folder,
            encoder_digest=new.encoder.digest,
            heads=new.heads({}, {}),
            features=new.features,
            novelty={task: one.novelty for task, one in new.novelty.items()},
            settings=chosen | self._settings.model_dump(include=training | {"young_class_size", "prior_correction"}),
            watermark=live.watermark,
            samples_new=int(result["samples_new"]),
            samples_replayed=int(result["samples_replayed"]),
            metrics=chosen
            | {"encoder_watermark": int(result["watermark"])}
            | {"consolidation": dict(result["metrics"]), "refit_s": round(refit_seconds, 2)},
        )

    async def _latency_ratio(self, live: LearnerState, new: LearnerState) -> float | None:
        """Time per text of the new artefact against the live one's, both in this process, in turn."""
        ids = [item.sample_id for one in live.tasks.values() for item in one.panel.items][:_TIMED_TEXTS]
        texts = [sample.text for sample in await self._samples.get_many(ids)]
        return await asyncio.to_thread(_ratio, live.encoder, new.encoder, texts) if texts else None


def _compare(old: TaskLearner, new: TaskLearner) -> Judged:
    """Both heads on the samples that neither encoder was trained on and that both panels hold."""
    places = {item.sample_id: row for row, item in enumerate(old.panel.items)}
    rows = [row for row, item in enumerate(new.panel.items) if item.sample_id in places]
    items = [new.panel.items[row] for row in rows]
    columns = torch.tensor([old.labels.index(label) for label in new.labels], dtype=torch.int64)
    live = old.leave_one_out()[[places[item.sample_id] for item in items]][:, columns]
    candidate = new.leave_one_out()[rows]
    empty = candidate.new_zeros(0, len(new.labels))
    none = torch.zeros(0, dtype=torch.int64)
    return Judged(tuple(new.labels), items, new.panel.targets[rows], live, candidate, none, empty, empty)


def _ratio(old: Encoder, new: Encoder, texts: list[str]) -> float:
    best = {"old": float("inf"), "new": float("inf")}
    for _ in range(_TIMED_ROUNDS):
        for name, encoder in (("old", old), ("new", new)):
            begun = time.perf_counter()
            encoder.encode(texts)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best["new"] / best["old"]
