"""What the service uses of the outside."""

from __future__ import annotations

from dataclasses import dataclass

from pawl.ports import ArtefactStore, FeedbackStream, LabelStore, PredictionLog, SampleStore, VersionLedger


@dataclass(frozen=True, slots=True)
class Ports:
    """Stores, stream and artefacts of one app, opened and closed by whoever made them."""

    samples: SampleStore
    predictions: PredictionLog
    ledger: VersionLedger
    labels: LabelStore
    stream: FeedbackStream
    artefacts: ArtefactStore
