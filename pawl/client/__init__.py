"""A typed client of a running service."""

from pawl.client.answers import Correction, FeedbackReceipt, FeedbackStatus, ListedVersion, LiveModel, PredictionBatch
from pawl.client.client import Client, NotLearned, RequestRefused, ServiceUnreachable

__all__ = [
    "Client",
    "Correction",
    "FeedbackReceipt",
    "FeedbackStatus",
    "ListedVersion",
    "LiveModel",
    "NotLearned",
    "PredictionBatch",
    "RequestRefused",
    "ServiceUnreachable",
]
