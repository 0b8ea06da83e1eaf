"""The app's metrics, in a registry of their own, so that two apps in one process do not collide.

Everything that has a limit has a gauge here; gauges are read when they are scraped, not on the way of a request.
"""

from __future__ import annotations

from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from pawl.domain.predictions import AnsweredBy

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class AppMetrics:
    """Counters, gauges and histograms of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._count_requests(self.registry)
        self._count_versions(self.registry)
        self._count_log(self.registry)
        self._count_feedback(self.registry)
        self.background_failures = Counter(
            "pawl_background_failures",
            "Background tasks restarted after an unexpected error",
            ("task",),
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def _count_requests(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "pawl_http_requests", "Requests answered", ("route", "method", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "pawl_http_request_seconds", "Time to a full answer", ("route",), registry=registry, buckets=_SECONDS
        )
        self.predicted = Counter(
            "pawl_predicted_texts", "Texts answered, by the heads that spoke", ("by",), registry=registry
        )
        for by in get_args(AnsweredBy):
            self.predicted.labels(by)  # there from the start, so that a rate of them has a beginning
        self.tokens = Counter("pawl_predict_tokens", "Tokens read of texts", registry=registry)
        self.unknown_tokens = Counter(
            "pawl_predict_unknown_tokens", "Of these, the ones that the encoder does not know", registry=registry
        )
        self.truncated_texts = Counter(
            "pawl_predict_truncated_texts", "Texts with more tokens than the encoder takes", registry=registry
        )
        self.queued_texts = Gauge("pawl_predict_queue_texts", "Texts waiting for the encoder", registry=registry)
        self.queue_limit = Gauge("pawl_predict_queue_limit", "Most texts that may wait", registry=registry)
        self.expired_texts = Counter(
            "pawl_predict_expired_texts", "Texts dropped before compute: deadline or client gone", registry=registry
        )
        self.answer_cache = Gauge("pawl_answer_cache_entries", "Answers kept for the same text", registry=registry)
        self.cached_texts = Counter("pawl_predict_cached_texts", "Texts answered from that cache", registry=registry)
        self.batch_texts = Histogram("pawl_batch_texts", "Texts in a batch", registry=registry, buckets=_TEXTS)
        self.batch_seconds = Histogram(
            "pawl_batch_seconds", "Time of a batch in encoder and head", registry=registry, buckets=_SECONDS
        )
        self.version_waiters = Gauge("pawl_version_waiters", "Requests waiting for min_version", registry=registry)

    def _count_versions(self, registry: CollectorRegistry) -> None:
        self.live_version = Gauge("pawl_live_version", "Number of the version that answers here", registry=registry)
        self.fast_answers_share = Gauge(
            "pawl_fast_answers_share",
            "Share of the evaluation set that words alone answer in the live version; 0 where they answer nothing",
            ("task",),
            registry=registry,
        )
        self.backend_failures = Gauge(
            "pawl_backend_failures",
            "Batches that the backend of the live encoder failed on and another one embedded, or none",
            registry=registry,
        )
        self.leased_versions = Gauge(
            "pawl_leased_versions", "Replaced versions that requests still hold", registry=registry
        )
        self.contradictions = Gauge(
            "pawl_settings_contradicted", "Settings that ask for other than what serves", registry=registry
        )
        self.swaps = Counter("pawl_version_swaps", "Versions put live here", registry=registry)
        self.drained = Counter("pawl_versions_drained", "Replaced versions released", registry=registry)
        self.load_failures = Counter("pawl_version_load_failures", "Failed tries to load a version", registry=registry)
        self.load_seconds = Histogram(
            "pawl_version_load_seconds", "Verify, load and warm up a version", registry=registry, buckets=_SECONDS
        )

    def _count_log(self, registry: CollectorRegistry) -> None:
        self.prediction_buffer = Gauge(
            "pawl_prediction_buffer", "Answers waiting to be written to SQL", registry=registry
        )
        self.predictions_dropped = Counter(
            "pawl_predictions_dropped", "Answers dropped from a full buffer", registry=registry
        )
        self.expired_rows = Counter(
            "pawl_expired_rows", "Rows that retention removed from SQL", ("table",), registry=registry
        )
        self.prediction_write_failures = Counter(
            "pawl_prediction_write_failures", "Failed writes of the prediction log", registry=registry
        )

    def _count_feedback(self, registry: CollectorRegistry) -> None:
        self.feedback_accepted = Counter("pawl_feedback_accepted", "Feedback items answered 202", registry=registry)
        self.feedback_answers = Counter(
            "pawl_feedback_answers",
            "Labels that came for an answer, by the heads that gave it and whether the label agrees with it",
            ("by", "agrees"),
            registry=registry,
        )
        for by in get_args(AnsweredBy):
            for agrees in ("yes", "no"):
                self.feedback_answers.labels(by, agrees)
        self.feedback_faults = Counter(
            "pawl_feedback_faults", "Faults of feedback items that were refused", ("field",), registry=registry
        )
        self.feedback_warnings = Counter(
            "pawl_feedback_warnings", "Warnings in receipts of feedback", registry=registry
        )
        self.feedback_backlog = Gauge("pawl_feedback_backlog", "Feedback waiting to be learned", registry=registry)
        self.feedback_limit = Gauge("pawl_feedback_backlog_limit", "Most feedback that may wait", registry=registry)
        self.quarantined = Gauge(
            "pawl_quarantined", "Labels in quarantine, by what put them there", ("kind",), registry=registry
        )
        self.announcements = Gauge("pawl_announcements", "Sample ids waiting for the stream", registry=registry)
        self.announcements_limit = Gauge("pawl_announcements_limit", "Most ids that may wait", registry=registry)
        self.stream_entries = Gauge("pawl_stream_entries", "Entries on the stream", registry=registry)
        self.stream_limit = Gauge("pawl_stream_entries_limit", "Most entries (about) on the stream", registry=registry)
        self.announce_failures = Counter(
            "pawl_announce_failures", "Ids the stream did not take (the sweep brings them)", registry=registry
        )
        self.dead_letters = Gauge("pawl_dead_letters", "Labels that could not be learned", registry=registry)
        self.learner_alive = Gauge("pawl_learner_alive", "Whether a learner's heartbeat is fresh", registry=registry)
        self.learner_troubled = Gauge(
            "pawl_learner_troubled", "Whether something keeps the learner from its work", registry=registry
        )
        self.listeners = Gauge("pawl_event_listeners", "Open event streams", registry=registry)
