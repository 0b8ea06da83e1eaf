"""The ports of the outside world that the learner uses, as one parameter."""

from __future__ import annotations

from dataclasses import dataclass

from pawl.clock import Clock
from pawl.ports import ArtefactStore, FeedbackStream, LabelStore, SampleStore, VersionLedger


@dataclass(frozen=True, slots=True)
class LearnerPorts:
    """Stores, stream and clock. A process gets adapters of servers and disks from `worker/assembly.py`."""

    samples: SampleStore
    ledger: VersionLedger
    labels: LabelStore
    artefacts: ArtefactStore
    stream: FeedbackStream
    clock: Clock
