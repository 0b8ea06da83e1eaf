"""What is written about a request for another encoder: shared by the SQL table and its in-memory twin."""

from __future__ import annotations

from datetime import datetime

from pawl.domain.encoders import EncoderChoice, EncoderRequest, EncoderRequestState
from pawl.domain.identifiers import ENCODER_REQUEST_PREFIX, new_identifier
from pawl.json_values import Json

REQUESTED, SETTLED = "encoder_requested", "encoder_settled"


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


def replaced_by(request: EncoderRequest) -> str:
    """The problem of an older request that a newer one takes the place of."""
    return f"replaced by {request.id}"


def event_of(request: EncoderRequest) -> tuple[str, Json]:
    """The event (type, payload) of a request that was made or settled just now."""
    told: Json = {"id": request.id, "encoder": request.choice.encoder, "state": request.state.value}
    if request.state is EncoderRequestState.PENDING:
        return REQUESTED, told | {"reason": request.reason}
    return SETTLED, told | {"version": request.version, "problem": request.problem, "report": request.report}
