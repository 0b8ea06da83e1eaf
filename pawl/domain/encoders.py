"""Which encoder was asked for, what a version was made with, and requests for another one. Frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from pawl.domain.identifiers import ENCODER_REQUEST_PREFIX, new_identifier
from pawl.json_values import Json

NO_ENCODER = "none"
"""What is named instead of an encoder where there is to be none: heads on words alone."""
NOTHING_TO_TRAIN = "there is no encoder to fine-tune"
MADE_WITH = "made_with"
"""Where a manifest's settings keep an `EncoderOrigin`."""


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """What decides the features that heads are fitted to; the fields are named as the settings are."""

    encoder: str
    encoder_sha256: str | None
    encoder_prefix: str | None
    max_tokens: int
    pooled_layers: int
    precision: str
    random_features: int
    seed: int
    lexical_size: int

    @property
    def is_none(self) -> bool:
        """Whether there is to be no encoder; what the other fields say of one is then of no effect."""
        return self.encoder == NO_ENCODER

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> EncoderChoice:
        """The choice among other values."""
        return EncoderChoice(**{each.name: value[each.name] for each in fields(EncoderChoice)})


@dataclass(frozen=True, slots=True)
class EncoderOrigin:
    """What a version's features were made with.

    `source_digest` is of the published files, wherever they lay; `weights_sha256` of their weights, where these are
    one file.
    """

    choice: EncoderChoice
    source_digest: str
    weights_sha256: str | None

    def to_json(self) -> Json:
        """Plain JSON values."""
        return {
            **asdict(self.choice),
            "source_digest": self.source_digest,
            "weights_sha256": self.weights_sha256,
        }

    @staticmethod
    def of(settings: Mapping[str, Any]) -> EncoderOrigin | None:
        """What a manifest's settings say; None where they say nothing (or nothing that can be read)."""
        value: Any = settings.get(MADE_WITH)
        try:
            return EncoderOrigin(EncoderChoice.from_json(value), str(value["source_digest"]), value["weights_sha256"])
        # A folder of an older Pawl, or one from elsewhere: it serves, only nothing can be compared with it.
        except (KeyError, TypeError):
            return None


REQUESTED, SETTLED = "encoder_requested", "encoder_settled"
"""Types of the events about requests."""


class EncoderRequestState(StrEnum):
    """`pending` is the only one that is not final."""

    PENDING = "pending"
    APPLIED = "applied"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EncoderRequest:
    """Another encoder that somebody asked for.

    `accept` is why it is to serve even if the gate finds it worse. `version` is the one that came of it, live or
    refused; `report` is how the two compare, by task; `problem` says why nothing came of it.
    """

    id: str
    choice: EncoderChoice
    reason: str | None
    accept: str | None
    state: EncoderRequestState
    version: int | None
    problem: str | None
    report: Json
    requested_at: datetime
    settled_at: datetime | None


def new_request(choice: EncoderChoice, reason: str | None, accept: str | None, now: datetime) -> EncoderRequest:
    """A request that waits."""
    return EncoderRequest(
        id=new_identifier(ENCODER_REQUEST_PREFIX),
        choice=choice,
        reason=reason,
        accept=accept,
        state=EncoderRequestState.PENDING,
        version=None,
        problem=None,
        report={},
        requested_at=now,
        settled_at=None,
    )


def request_event(request: EncoderRequest) -> tuple[str, Json]:
    """Type and payload of the event of a request that was made or settled just now."""
    payload: Json = {"id": request.id, "encoder": request.choice.encoder, "state": request.state.value}
    if request.state is EncoderRequestState.PENDING:
        return REQUESTED, payload | {"reason": request.reason}
    return SETTLED, payload | {"version": request.version, "problem": request.problem, "report": request.report}
