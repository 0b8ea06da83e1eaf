"""Every error Pawl raises on purpose. The docstring of a class is its message, filled in with the keyword
arguments it is raised with. HTTP statuses are not known here; `app/errors.py` maps them.

    PawlError
    |-- InvalidInput
    |   |-- ItemsRefused
    |   |-- UnknownTask
    |   |-- TaskNotCreated
    |   |-- TaskLeaving
    |   |-- UnknownLabel
    |   |-- LabelRetired
    |   |-- UnknownMergeTarget
    |   |-- UnknownPrediction
    |   `-- IdempotencyConflict
    |-- NotFound
    |   |-- LabelNotFound
    |   |-- LabelChangeNotFound
    |   |-- EncoderRequestNotFound
    |   |-- SampleNotFound
    |   |-- SourceNotFound
    |   |-- TaskNotFound
    |   `-- VersionNotFound
    |-- Conflict
    |   |-- NoLiveVersion
    |   |-- VersionNotReached
    |   |-- ArtefactsGone
    |   |-- AlreadyLive
    |   |-- LabelExists
    |   |-- LabelChangePending
    |   |-- TooFewLabels
    |   |-- OneLabel
    |   |-- NotQuarantined
    |   |-- NotDead
    |   |-- SentAgain
    |   `-- ParentNotLive
    |       `-- CandidateStale
    |-- Overloaded
    |   `-- QueueFull
    |-- Unavailable
    |   |-- Draining
    |   |-- PlaceUnwell
    |   |-- EncoderFailed
    |   `-- StoreUnavailable
    |       `-- SchemaMismatch
    |-- DeadlineExceeded
    |-- ArtefactCorrupt
    |-- EncoderRejected
    |-- SettingInvalid
    `-- SettingsContradict
"""

from __future__ import annotations


class PawlError(Exception):
    """Pawl could not do what was asked."""

    def __init__(self, **details: object) -> None:
        self.details = details
        template = type(self).__doc__ or PawlError.__doc__ or ""
        super().__init__(template.format(**details))

    @property
    def public(self) -> str:
        """What may be said to a client: nothing of where servers are or what they said."""
        return str(self)


class InvalidInput(PawlError):
    """The request is not valid: {problem}"""


class ItemsRefused(InvalidInput):
    """{count} of the {items} items cannot be accepted, so none was. Item {index}, {field}: {problem}"""


class TaskNotCreated(InvalidInput):
    """There is no task {task!r} (there are {known}){nearest}; to make it, say `create_task`."""


class TaskLeaving(InvalidInput):
    """The task {task!r} is being dropped ({change}); wait until that is settled."""


class UnknownTask(InvalidInput):
    """The task {task!r} is not known to version {version}; known tasks are {known}."""


class UnknownLabel(InvalidInput):
    """The label {label!r} is not in the closed label set of task {task!r}; allowed are {known}."""


class LabelRetired(InvalidInput):
    """The label {label!r} of task {task!r} was retired; to use it again, add it (POST /v1/labels)."""


class UnknownMergeTarget(InvalidInput):
    """There is no label {label!r} in task {task!r} to merge into."""


class UnknownPrediction(InvalidInput):
    """The prediction {prediction_id!r} is unknown or has expired; send the text instead."""


class IdempotencyConflict(InvalidInput):
    """The Idempotency-Key {key!r} was used before with another body; use a new key for a new request."""


class NotFound(PawlError):
    """{what} does not exist."""


class LabelNotFound(NotFound):
    """There is no label {label!r} in task {task!r}."""


class LabelChangeNotFound(NotFound):
    """There is no label change {change_id!r}."""


class EncoderRequestNotFound(NotFound):
    """There is no request {request_id!r} for an encoder."""


class SampleNotFound(NotFound):
    """There is no feedback {sample_id!r}."""


class SourceNotFound(NotFound):
    """No sample of task {task!r} is from the source {source!r}."""


class TaskNotFound(NotFound):
    """There is no task {task!r}; there are: {known}."""


class VersionNotFound(NotFound):
    """There is no version {number}."""


class Conflict(PawlError):
    """The request conflicts with the present state: {problem}"""


class NoLiveVersion(Conflict):
    """There is no version to answer with yet: send labels to POST /v1/feedback, or run `pawl import FILE.csv`."""


class VersionNotReached(Conflict):
    """Version {wanted} is not served here yet; the live version is {live}."""


class ArtefactsGone(Conflict):
    """The artefacts of version {number} are no longer kept (retention), so it cannot be promoted."""


class AlreadyLive(Conflict):
    """Version {number} is live already."""


class LabelExists(Conflict):
    """The label {label!r} exists in task {task!r}; {advice}"""


class LabelChangePending(Conflict):
    """Another change of these labels is under way: {change} ({kind} {other!r}); wait until it is settled."""


class TooFewLabels(Conflict):
    """Without the label {label!r} task {task!r} would have fewer than {fewest} labels with samples."""


class OneLabel(Conflict):
    """The task {task!r} has one label so far ({label}), so there is nothing to tell apart; send samples of another."""


class NotQuarantined(Conflict):
    """The feedback {sample_id!r} is not in quarantine (it is {state})."""


class NotDead(Conflict):
    """The feedback {sample_id!r} is no dead letter (it is {state})."""


class SentAgain(Conflict):
    """The text of {sample_id!r} came again as {other!r} ({state}), so it cannot be driven again; discard it."""


class ParentNotLive(Conflict):
    """Version {parent} is no longer live ({live} is), so nothing built on it can be promoted."""


class CandidateStale(ParentNotLive):
    """The candidate built on version {parent} does not fit the store any more: {problem}"""


class Overloaded(PawlError):
    """The service is at its limit; try again in {retry_after} s."""


class QueueFull(Overloaded):
    """The {queue} queue is full ({limit}); try again in {retry_after} s."""


class Unavailable(PawlError):
    """The service cannot answer now: {problem}"""


class Draining(Unavailable):
    """The process is shutting down; send the request to another one."""


class PlaceUnwell(Unavailable):
    """The learner cannot work here now: {problem}"""


class EncoderFailed(Unavailable):
    """The encoder could not embed the texts: {problem}"""


class StoreUnavailable(Unavailable):
    """The database cannot be used: {problem}"""

    def __init__(self, *, problem: str, said: str = "") -> None:
        super().__init__(problem=problem)
        self.problem = problem
        self.said = said

    @property
    def public(self) -> str:
        """Without the server's own words, which may name hosts and ports."""
        return super().__str__()

    def __str__(self) -> str:
        """With the server's own words."""
        return f"{self.public} ({self.said})" if self.said else self.public


class SchemaMismatch(StoreUnavailable):
    """The database does not fit this Pawl: {problem}"""


class DeadlineExceeded(PawlError):
    """The answer was not ready within {limit_ms} ms."""


class ArtefactCorrupt(PawlError):
    """The artefact {path} is damaged or incomplete: {problem}"""


class EncoderRejected(PawlError):
    """The encoder at {path} cannot be used: {problem}"""


class SettingInvalid(PawlError):
    """The setting {name}={value!r} is not valid: {problem}"""


class SettingsContradict(PawlError):
    """The settings contradict what this home was made with: {problem}"""


class TrainingFailed(PawlError):
    """The encoder could not be trained: {problem}"""
