"""One step of learning as values: what is proposed, and what a promotion does to the samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pawl.domain.gate_reports import GateReport
from pawl.domain.labels import LabelChange
from pawl.domain.quarantine import Doubt, Hold
from pawl.domain.samples import Sample
from pawl.domain.versions import LedgerChange, VersionKind
from worker.model.change import ModelChange
from worker.model.proposal import Proposal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """What one candidate is made of, and what its promotion does to the samples.

    Args:
        kind, trigger: as the version says them.
        proposals: the proposed head of each task that changes.
        adds: samples that are learned.
        removes: id -> reason, of learned samples that leave for good.
        replaced, dropped: id -> id of the newer sample with another label for the same text, of learned samples that
            leave and of queued ones that never enter.
        pulls: id -> why, of learned samples that go into quarantine.
        doubts: id -> what speaks against a label; kept with what is learned.
        forced: the reason why it passes the gate whatever that finds.
        timings: milliseconds by name, for the version's metrics.
        label: the change of a label that it carries out.
        without: a task whose head goes.
        reason: the version's.
        charged: by task, what a batch was refused for that this is a part of.
        changes: by task, what `proposals` were made of.
        needs_snapshot: recovery cannot follow the ledger over this version.
    """

    kind: VersionKind
    trigger: str
    proposals: Mapping[str, Proposal]
    adds: Sequence[Sample] = ()
    removes: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    pulls: Mapping[str, Hold] = field(default_factory=dict)
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    forced: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    label: LabelChange | None = None
    without: str | None = None
    reason: str | None = None
    charged: Mapping[str, Collection[str]] = field(default_factory=dict)
    changes: Mapping[str, ModelChange] = field(default_factory=dict)
    needs_snapshot: bool = False

    def staying(self, by_task: Mapping[str, T]) -> dict[str, T]:
        """All but what belongs to the task that goes."""
        return {task: value for task, value in by_task.items() if task != self.without}

    @property
    def moved(self) -> int:
        """Samples that come or go."""
        return len(self.adds) + len(self.removes) + len(self.replaced) + len(self.pulls)

    def ledger_change(self) -> LedgerChange:
        """What its promotion writes."""
        return LedgerChange(
            learned=tuple(sample.id for sample in self.adds),
            unlearned=dict(self.removes),
            replaced=dict(self.replaced),
            dropped=dict(self.dropped),
            quarantined={sample_id: hold.reason for sample_id, hold in self.pulls.items()},
            kinds={sample_id: hold.kind for sample_id, hold in self.pulls.items()},
            doubts=dict(self.doubts),
            label=self.label,
            emphasis={id: factor for proposal in self.proposals.values() for id, factor in proposal.emphasis.items()},
        )


def harm(task: str, report: GateReport) -> str:
    """Why samples of a task are kept out, as their reviewer reads it."""
    return "harms: " + "; ".join(reason.removeprefix(f"{task}: ") for reason in report.reasons)[:490]


def of_task(samples: Sequence[Sample], task: str) -> list[Sample]:
    """Those of a task."""
    return [sample for sample in samples if sample.task == task]
