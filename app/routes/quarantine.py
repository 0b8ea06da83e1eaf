"""`GET /v1/quarantine`, `POST /v1/quarantine/{id}`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from app.openapi import BODY, problems
from app.routes.access import fields_of, json_response, page_of, service_of
from app.routes.body import document, read_body
from app.routes.feedback import SampleId, checked
from app.routes.filters import Before, Limit, OnlyLabel, OnlySource, OnlyTask
from app.schemas.quarantine import QuarantinedOut, QuarantinePage, ReviewRequest
from pawl.domain.quarantine import QuarantineFilter, QuarantineKind, Review
from pawl.domain.samples import SampleState

router = APIRouter(tags=["feedback"])

_BODY = TypeAdapter(ReviewRequest)


@router.get(
    "/v1/quarantine",
    summary="Labels that wait for a look",
    response_model=QuarantinePage,
    responses=problems(422, 503),
)
async def list_quarantine(
    request: Request,
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    kind: Annotated[QuarantineKind | None, Query(description="Only what this put there.")] = None,
    before: Before = None,
    limit: Limit = 50,
) -> Response:
    """Newest first, each with the reason why it is not learned."""
    samples = service_of(request).ports.samples
    read = await samples.quarantined(QuarantineFilter(task, source, label, kind), before, limit + 1)
    page = page_of(QuarantinedOut, read, limit, "seq")
    return json_response(page | {"counts": await samples.quarantine_counts()})


@router.post(
    "/v1/quarantine/{id}",
    summary="Release a label from quarantine, or discard it",
    response_model=QuarantinedOut,
    responses=problems(*BODY, 404, 409, 503),
    openapi_extra=document(_BODY),
)
async def review_quarantined(request: Request, sample_id: SampleId) -> Response:
    """Released, it is queued again and not screened a second time (the gate still judges it, and a newer label for its
    text still counts more). The same decision again changes nothing; another one is a 409.
    """
    service = service_of(request)
    body = await read_body(request, _BODY)
    review = Review(body.action, body.reason, body.by or "api")
    sample = await service.ports.samples.review(checked(sample_id), review)
    if sample.state is SampleState.QUEUED:
        service.announcer.announce([sample.id])  # else only the sweep would find it, later
    return json_response(fields_of(QuarantinedOut, sample))
