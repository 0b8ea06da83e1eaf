"""`GET` and `POST /v1/encoder`: which encoder serves, and another one instead."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from app.openapi import BODY, problems
from app.routes.access import json_response, service_of
from app.routes.body import document, read_body
from app.schemas.encoder import EncoderAsked, EncoderOut, EncoderRequestOut
from pawl.domain.errors import ArtefactCorrupt, Conflict
from pawl.versions.contradictions import served_version, wanted_choice
from pawl.versions.encoder_report import describe, describe_request

router = APIRouter(tags=["learning"])

_BODY: TypeAdapter[EncoderAsked] = TypeAdapter(EncoderAsked)
_NOTHING = "nothing has been learned, so there is no encoder yet; the first version takes the one in PAWL_ENCODER."


@router.get("/v1/encoder", summary="The encoder", response_model=EncoderOut, responses=problems(409, 503))
async def get_encoder(request: Request) -> Response:
    """What serves, what it was made with, settings that contradict it, and what became of the newest request."""
    service = service_of(request)
    ports = service.ports
    served = await served_version(ports.ledger, ports.artefacts)
    if served is None:
        raise Conflict(problem=_NOTHING)
    # Asked anew: what the watch knows may be ten seconds old, and this is read after a change.
    contradictions = await service.contradictions.refresh()
    digest = (await ports.ledger.get(served.version)).encoder_digest
    try:
        report = await asyncio.to_thread(describe, served, digest, ports.artefacts.path(served.version), contradictions)
    except ArtefactCorrupt as error:
        raise Conflict(problem=f"version {served.version} cannot be read. {error}") from error
    return json_response(report)


@router.post(
    "/v1/encoder",
    status_code=202,
    summary="Ask for another encoder",
    response_model=EncoderRequestOut,
    responses=problems(*BODY, 409, 503),
    openapi_extra=document(_BODY),
)
async def ask_encoder(request: Request) -> Response:
    """The learner embeds all samples with it, refits the heads, and judges it against what serves; `GET` tells how.

    It lies on the learner's machine or on the hub, so it is the learner that finds out whether it can be used.
    """
    service = service_of(request)
    body = await read_body(request, _BODY)
    served = await served_version(service.ports.ledger, service.ports.artefacts)
    if served is None:
        raise Conflict(problem=_NOTHING)
    made = None if served.origin is None else served.origin.choice
    choice = wanted_choice(service.settings, made, body.encoder, body.prefix)
    asked = await service.ports.ledger.request_encoder(choice, body.reason, body.accept)
    return json_response(describe_request(asked), 202, {"location": "/v1/encoder"})
