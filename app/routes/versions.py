"""`GET /v1/versions`, `GET /v1/versions/{number}`, `POST /v1/versions/{number}/promote`, `POST /v1/consolidations`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from app.openapi import BODY, problems
from app.routes.access import fields_of, json_response, page_of, service_of
from app.routes.body import document, read_body
from app.schemas.versions import (
    ConsolidationOut,
    PreviewOut,
    PromotedOut,
    PromoteRequest,
    VersionOut,
    VersionPage,
    VersionSummary,
)
from pawl.classifier.encoders.spec import NO_ENCODER_DIGEST
from pawl.domain.encoders import NOTHING_TO_TRAIN
from pawl.domain.errors import ArtefactCorrupt, Conflict
from pawl.domain.versions import CONSOLIDATION_ASKED
from pawl.versions.rollback import preview, promote_again

router = APIRouter(tags=["versions"])

_BODY = TypeAdapter(PromoteRequest)
_LARGEST = 2**31 - 1  # numbers are 32-bit integers in SQL

Number = Annotated[int, Path(ge=1, le=_LARGEST, description="The version's number.", examples=[12])]


@router.get("/v1/versions", summary="The lineage", response_model=VersionPage, responses=problems(422, 503))
async def list_versions(
    request: Request,
    before: Annotated[int | None, Query(ge=1, le=_LARGEST, description="Only numbers below it.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most versions in the answer.")] = 50,
) -> Response:
    """Newest first, refused candidates included. For the next page, give `next` as `before`."""
    page = await service_of(request).ports.ledger.page(before, limit + 1)
    return json_response(page_of(VersionSummary, page, limit, "number"))


@router.get(
    "/v1/versions/{number}", summary="One version", response_model=VersionOut, responses=problems(404, 422, 503)
)
async def get_version(request: Request, number: Number) -> Response:
    """Lineage, metrics, digests, and the full report of the gate."""
    return json_response(fields_of(VersionOut, await service_of(request).ports.ledger.get(number)))


@router.post(
    "/v1/versions/{number}/promote",
    status_code=200,
    summary="Roll back, or force a refused version",
    response_model=PromotedOut | PreviewOut,
    responses=problems(*BODY, 404, 409, 503),
    openapi_extra=document(_BODY),
)
async def promote_version(request: Request, number: Number) -> Response:
    """Makes the version's artefacts live under a new number; `effect` says what that does to the labels.

    What was learned since an earlier version moves to `quarantined`. A refused version is exactly what it was when it
    was refused, with its samples; what was learned since is queued, to be learned on top of it. `dry_run` changes
    nothing.
    """
    service = service_of(request)
    body = await read_body(request, _BODY)
    ports = service.ports
    if body.dry_run:
        seen = await preview(number, ports)
        live = seen.live.number if seen.live is not None else None
        content = {"dry_run": True, "target": number, "kind": seen.kind, "live": live, "effect": seen.effect.to_json()}
        return json_response(content)
    try:
        # `str`: without a dry run the body's validator has seen to it that there is one.
        made = await promote_again(number, reason=str(body.reason), promoted_by="api", ports=ports)
    except ArtefactCorrupt as error:
        raise Conflict(problem=f"version {number} cannot serve. {error}") from error
    version = made.version
    headers = {"location": f"/v1/versions/{version.number}"}
    return json_response(fields_of(VersionOut, version) | {"effect": made.effect.to_json()}, headers=headers)


@router.post(
    "/v1/consolidations",
    status_code=202,
    summary="Ask for a consolidation now",
    response_model=ConsolidationOut,
    responses=problems(409, 503),
    tags=["learning"],
)
async def ask_consolidation(request: Request) -> Response:
    """The learner starts one when it can; `/v1/events` tells how it goes. A body, if there is one, is not read."""
    ledger = service_of(request).ports.ledger
    live = await ledger.live()
    if live is not None and live.encoder_digest == NO_ENCODER_DIGEST:
        raise Conflict(problem=f"{NOTHING_TO_TRAIN}: version {live.number} answers by words alone.")
    # In SQL and not on the stream: it survives a restart of the learner, and needs no Redis (ADR 0025).
    await ledger.append_event(CONSOLIDATION_ASKED, {"trigger": "api"})
    return json_response({"state": "asked"}, 202)
