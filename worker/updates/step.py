"""One step of learning as values: what is proposed, and what a promotion does to the samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pawl.domain.labels import LabelChange
from pawl.domain.quarantine import Doubt, Hold
from pawl.domain.samples import Sample
from pawl.domain.versions import LedgerChange, VersionKind
from worker.model.change import ModelChange
from worker.model.proposal import Proposal
from worker.model.task_model import TaskModel

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """What one candidate is made of: proposals per task, and what they do to the samples.

    removes and dropped leave for good (id -> reason), pulls go into quarantine; doubts are kept with what is added.
    """

    kind: VersionKind
    trigger: str
    candidates: Mapping[str, Proposal]
    adds: Sequence[Sample] = ()
    removes: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    pulls: Mapping[str, Hold] = field(default_factory=dict)
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    forced: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    label: LabelChange | None = None
    without: str | None = None
    """A task whose head goes."""
    reason: str | None = None
    charged: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By task, what a batch was refused for that this is a part of."""
    changes: Mapping[str, ModelChange] = field(default_factory=dict)
    """By task, what `candidates` were made of."""

    def staying(self, heads: Mapping[str, T]) -> dict[str, T]:
        """What stays of something by task."""
        return {task: one for task, one in heads.items() if task != self.without}

    @property
    def moved(self) -> int:
        """Samples that come or go."""
        return len(self.adds) + len(self.removes) + len(self.pulls)

    def change(self) -> LedgerChange:
        """What its promotion writes."""
        return LedgerChange(
            learned=tuple(sample.id for sample in self.adds),
            unlearned=dict(self.removes),
            dropped=dict(self.dropped),
            quarantined={sample_id: one.reason for sample_id, one in self.pulls.items()},
            kinds={sample_id: one.kind for sample_id, one in self.pulls.items()},
            doubts=dict(self.doubts),
            label=self.label,
            emphasis={id: by for one in self.candidates.values() for id, by in one.emphasis.items()},
        )

    def apply(self, models: Mapping[str, TaskModel]) -> None:
        """The models, by task, take the proposals over."""
        for task, proposal in self.candidates.items():
            models[task].apply(proposal)
