"""The first version: made as soon as there are enough samples, out of those that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from pawl.backoff import Backoff
from pawl.domain.errors import EncoderRejected, ParentNotLive, StoreUnavailable
from pawl.domain.imports import ExportedHeads
from pawl.domain.samples import Sample
from pawl.domain.versions import Version, VersionKind
from pawl.settings import Settings
from worker.health.environment import Environment
from worker.health.faults import is_device_lost, sentence
from worker.model.hyperparameters import choose
from worker.model.proposal import PairedScores, Proposal, without_live
from worker.model.task_model import TaskModel
from worker.screening.conflict_resolution import resolve_conflicts
from worker.screening.truncation import find_alike
from worker.state.chosen import as_exported, exported_centre
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.updates.encoder_check import EncoderCheck
from worker.updates.step_runner import StepRunner

MOST_SAMPLES = 20_000
"""Samples of a first version; what waits besides is learned by the next ones."""
log = structlog.get_logger(__name__)


class Bootstrap:
    """Makes the first version. `empty_state` opens the encoder that the settings name."""

    def __init__(
        self,
        runner: StepRunner,
        ports: LearnerPorts,
        recovery: Recovery,
        empty_state: Callable[[], LearnerState],
        settings: Settings,
    ) -> None:
        self._runner = runner
        self._samples = ports.samples
        self._ledger = ports.ledger
        self._recovery = recovery
        self._empty_state = empty_state
        self._settings = settings
        self._failures = Backoff(first=1.0)

    async def is_possible(self) -> bool:
        """Whether enough samples wait."""
        return await self._samples.makes_first_version(self._settings.bootstrap_samples)

    async def run(
        self, environment: Environment, encoder_check: EncoderCheck, pause: Callable[[float], Awaitable[None]]
    ) -> bool:
        """Makes the first version out of what waits; false where that failed, which is reported, after a pause."""
        samples = await self._samples.first_samples(MOST_SAMPLES)
        await self._ledger.append_event("bootstrap_started", {"samples": len(samples)})
        started = time.perf_counter()
        try:
            version = await self.make([sample.id for sample in samples])
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except EncoderRejected as error:
            await encoder_check.refuse(error)
            return False
        except Exception as error:
            # A full disk: no sample's fault, so none is given up for it.
            if is_device_lost(error):
                raise
            log.exception("bootstrap_failed", samples=len(samples))
            await environment.report(error)
            await self._ledger.append_event("bootstrap_failed", {"problem": sentence(error)})
            await pause(self._failures.next_pause())
            return False
        seconds, words = time.perf_counter() - started, version.metrics.get("words")
        log.info("bootstrapped", version=version.number, samples=len(samples), seconds=seconds, words=words)
        return True

    async def make(self, sample_ids: Sequence[str]) -> Version:
        """Makes the first version on an empty state: statistics, then lambda, then temperatures."""
        state = await asyncio.to_thread(self._empty_state)
        samples = await self._samples.get_many(sample_ids)
        resolution = resolve_conflicts(samples, await self._samples.rivals(samples))
        state = replace(state, alike=frozenset(await find_alike(state, self._samples, resolution.adds)))
        exported = await self._exported_heads(resolution.adds)
        said = [exported.get(sample.task) for sample in resolution.adds]
        centre = exported_centre(state.encoder.digest, state.encoder.dimension, said)
        if centre is None:
            state = await self._recovery.centred(state, resolution.adds)
        else:
            state = replace(state, features=state.features.with_centre(centre))
        step = await self._runner.propose(state, resolution.adds, [], bulk=True)
        # Proposed to models that the empty state does not keep (`LearnerState.model`); these are as new, so `apply`
        # takes the proposals.
        state = replace(state, tasks={task: state.new_model() for task in step.proposals})
        fitted = {
            task: await asyncio.to_thread(_fit, state.tasks[task], first, exported.get(task))
            for task, first in step.proposals.items()
        }
        # Before the last proposals: it changes the evaluation sets, and `apply` refuses what was proposed before a
        # change.
        state = await self._recovery.refresh_golden(state)
        proposals = {}
        for task, paired in fitted.items():
            proposal = state.tasks[task].propose_settings()
            proposals[task] = replace(proposal, paired=without_live(paired, step.proposals[task].paired))
        step = replace(step, kind=VersionKind.BOOTSTRAP, proposals=proposals, dropped=resolution.dropped)
        version, report = await self._runner.run(state, step)
        if version is None:
            raise RuntimeError(f"the first version was refused: {report.reasons}")
        return version

    async def _exported_heads(self, adds: Sequence[Sample]) -> dict[str, ExportedHeads]:
        """What was chosen for the heads of a task, where all its samples come out of one export, which says it."""
        sources: dict[str, set[str | None]] = {}
        for sample in adds:
            sources.setdefault(sample.task, set()).add(sample.import_id)
        imports = await self._samples.imports([id for ids in sources.values() for id in ids if id is not None])
        single = {task: imports.get(next(iter(ids)) or "") for task, ids in sources.items() if len(ids) == 1}
        return {
            task: source.heads for task, source in single.items() if source is not None and source.heads is not None
        }


def _fit(model: TaskModel, first: Proposal, exported: ExportedHeads | None) -> PairedScores:
    """Takes a task's first samples over, then what is chosen for its heads; returns how they do.

    An empty state has nothing to lose: after a failure it is dropped whole.
    """
    model.apply(first)
    chosen = choose(model)
    if exported is not None and set(exported.regularisation) == set(model.heads):
        chosen = as_exported(exported, model.samples)
    proposal = model.propose_settings(chosen)
    model.apply(proposal)
    return proposal.paired
