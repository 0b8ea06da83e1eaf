"""`GET /v1/dead-letters`, `GET` and `POST /v1/dead-letters/{id}`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from app.openapi import BODY, problems
from app.routes.access import fields_of, json_response, page_of, service_of
from app.routes.body import document, read_body
from app.routes.feedback import SampleId, checked
from app.routes.filters import Before, Limit, OnlyLabel, OnlySource, OnlyTask
from app.schemas.dead_letters import DeadLetterOut, DeadLetterPage, DeadLetterRequest
from pawl.domain.dead_letters import DeadLetterDecision, DeadLetterFilter
from pawl.domain.errors import NotDead
from pawl.domain.samples import SampleState

router = APIRouter(tags=["feedback"])

_BODY = TypeAdapter(DeadLetterRequest)


@router.get(
    "/v1/dead-letters",
    summary="Labels that could not be learned",
    response_model=DeadLetterPage,
    responses=problems(422, 503),
)
async def list_dead_letters(
    request: Request,
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    before: Before = None,
    limit: Limit = 50,
) -> Response:
    """Newest first, each with the error that came again and again with it alone, and not without it."""
    samples = service_of(request).ports.samples
    read = await samples.dead_letters(DeadLetterFilter(task, source, label), before, limit + 1)
    page = page_of(DeadLetterOut, read, limit, "seq")
    return json_response(page | {"count": await samples.dead_count()})


@router.get(
    "/v1/dead-letters/{id}",
    summary="One label that could not be learned",
    response_model=DeadLetterOut,
    responses=problems(404, 409, 503),
)
async def get_dead_letter(request: Request, sample_id: SampleId) -> Response:
    """409 where it is feedback that is not dead (any more); `GET /v1/feedback/{id}` has that."""
    sample = await service_of(request).ports.samples.get(checked(sample_id))
    if sample.state is not SampleState.DEAD:
        raise NotDead(sample_id=sample.id, state=sample.state.value)
    return json_response(fields_of(DeadLetterOut, sample))


@router.post(
    "/v1/dead-letters/{id}",
    summary="Try again to learn a label, or discard it",
    response_model=DeadLetterOut,
    responses=problems(*BODY, 404, 409, 503),
    openapi_extra=document(_BODY),
)
async def decide_dead_letter(request: Request, sample_id: SampleId) -> Response:
    """Redriven, it is queued again under the name its label has now. The same decision again changes nothing; another
    one is a 409, as is a label that was sent again meanwhile.
    """
    service = service_of(request)
    body = await read_body(request, _BODY)
    decision = DeadLetterDecision(body.action, body.reason, body.by or "api")
    sample = await service.ports.samples.decide_dead(checked(sample_id), decision)
    if sample.state is SampleState.QUEUED:
        service.announcer.announce([sample.id])  # else only the sweep would find it, later
    return json_response(fields_of(DeadLetterOut, sample))
