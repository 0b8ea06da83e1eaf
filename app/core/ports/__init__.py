"""What the service and the learner need from the outside, as Protocols. Adapters implement them; only the
composition roots (`app/main.py`, `app/cli.py`, `app/offline.py`, `worker/__main__.py`) name an adapter.

All I/O is async. Each method of a store is one transaction. Texts and labels are plain `str`; arrays are float32.
"""

from __future__ import annotations

from app.core.ports.classifier import ArtefactStore, Encoder, Floats, VersionFolder
from app.core.ports.clock import Clock
from app.core.ports.encoders import EncoderRequests
from app.core.ports.imports import ImportStore
from app.core.ports.labels import LabelStore
from app.core.ports.quarantine import QuarantineStore
from app.core.ports.samples import PredictionLog, SampleStore
from app.core.ports.stream import FeedbackStream, StreamEntry, StreamUnavailable
from app.core.ports.versions import VersionLedger

__all__ = [
    "ArtefactStore",
    "Clock",
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
    "StreamUnavailable",
    "VersionFolder",
    "VersionLedger",
]
