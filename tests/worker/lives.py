"""Learners in the test's process, on the home they worked on, and what must hold of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.domain.versions import HeadName, Version
from pawl.ports import Floats
from tests.direct_solve import direct_weights, relative_error
from tests.learners import Learner, new_learner
from tests.processes import Installation
from worker.state.learner_state import LearnerState

TOLERANCE = 1e-6


@dataclass(slots=True)
class Lived:
    """A learner after an eventful life, and how to start another one on what it left."""

    pawl: Installation
    engine: AsyncEngine
    learner: Learner

    @property
    def state(self) -> LearnerState:
        state = self.learner.runner.state
        assert state is not None
        return state

    @property
    def snapshots(self) -> list[Path]:
        return sorted(self.pawl.settings.snapshots_path.glob("*.json"))

    async def restarted(self) -> LearnerState:
        state = await new_learner(self.pawl.settings, self.engine).runner.catch_up()
        assert state is not None
        return state


async def live(learner: Learner) -> Version:
    version = await learner.ledger.live()
    assert version is not None
    return version


async def assert_exact(lived: Lived, learner: Learner | None = None) -> None:
    """The served heads are the direct solve over what SQL says is learned, stacked as the learner stacks them."""
    learner = learner or lived.learner
    version = await live(learner)
    model, learned = lived.pawl.offline(version.number), await learner.samples.learned("default")
    heads = model.heads["default"]
    assert heads.lexical is not None
    served: dict[HeadName, Floats] = {"semantic": heads.semantic.weights, "lexical": heads.lexical.weights}
    for head, regularisation in version.metrics["regularisation"]["default"].items():
        expected = direct_weights(model, learned, regularisation, head=head)
        assert relative_error(served[head], expected) < 1e-5
    assert set(heads.labels) >= {sample.label for sample in learned}
    state = learner.runner.state
    assert state is not None
    counts = await learner.samples.label_counts("default")
    task = state.tasks["default"]
    assert heads.lexical.stacking == task.stacking
    assert {label: n for label, n in zip(task.labels, task.counts, strict=True) if n} == counts


def assert_same(expected: LearnerState, found: LearnerState) -> None:
    """Everything that the next version depends on."""
    assert (found.version, found.samples, found.watermark) == (expected.version, expected.samples, expected.watermark)
    assert set(found.tasks) == set(expected.tasks)
    for task, own in found.tasks.items():
        other = expected.tasks[task]
        assert dict(zip(own.labels, own.counts, strict=True)) == dict(zip(other.labels, other.counts, strict=True))
        assert own.hyperparameters == other.hyperparameters
        assert {item.sample_id for item in own.evaluation.items} == {item.sample_id for item in other.evaluation.items}
        assert set(own.heads) == set(other.heads)
        for head in own.heads:
            mine, theirs = weights_by_label(found, task, head), weights_by_label(expected, task, head)
            for label, column in theirs.items():
                assert relative_error(mine[label], column) < TOLERANCE
        mine, theirs = judged(found, task), judged(expected, task)
        for sample_id, scores in theirs.items():
            np.testing.assert_allclose(mine[sample_id], scores, atol=1e-5)


def weights_by_label(state: LearnerState, task: str, head: HeadName = "semantic") -> dict[str, npt.NDArray[np.float64]]:
    """Label -> its column of W."""
    learner = state.tasks[task]
    columns = learner.heads[head].weights.double().cpu().numpy().T
    return {label: column for label, column, n in zip(learner.labels, columns, learner.counts, strict=True) if n}


def judged(state: LearnerState, task: str) -> dict[str, npt.NDArray[np.float64]]:
    """Sample -> its leave-one-out scores, in the order of the sorted labels."""
    learner = state.tasks[task]
    order = np.argsort(learner.labels)
    scores = learner.leave_one_out().double().cpu().numpy()[:, order]
    return {item.sample_id: row for item, row in zip(learner.evaluation.items, scores, strict=True)}
