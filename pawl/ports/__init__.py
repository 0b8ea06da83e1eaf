"""Protocols of what the service and the learner use of the outside world. Adapters implement them.
Only the modules that put a process together name an adapter; a contract of import-linter lists them.

All I/O is async. Each method of a store is one transaction. Texts and labels are plain `str`; arrays are float32.
"""

from __future__ import annotations

from pawl.ports.classifier import ArtefactStore, Encoder, Floats, VersionFolder
from pawl.ports.encoders import EncoderRequests
from pawl.ports.imports import ImportStore
from pawl.ports.labels import LabelStore
from pawl.ports.quarantine import QuarantineStore
from pawl.ports.samples import PredictionLog, SampleStore
from pawl.ports.stream import FeedbackStream, StreamEntry, StreamFault, StreamUnavailable
from pawl.ports.versions import VersionLedger

__all__ = [
    "ArtefactStore",
    "Encoder",
    "EncoderRequests",
    "FeedbackStream",
    "Floats",
    "ImportStore",
    "LabelStore",
    "PredictionLog",
    "QuarantineStore",
    "SampleStore",
    "StreamEntry",
    "StreamFault",
    "StreamUnavailable",
    "VersionFolder",
    "VersionLedger",
]
