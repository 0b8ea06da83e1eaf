"""`POST /v1/feedback`, `GET` and `DELETE /v1/feedback/{id}`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Path, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from app.errors import Problem, pointer
from app.openapi import BODY, problems
from app.routes.access import fields_of, json_response, service_of
from app.routes.body import check_count, document, invalid_body, read_body
from app.schemas.feedback import (
    FeedbackBatch,
    FeedbackItem,
    FeedbackOut,
    FeedbackReadOut,
    FeedbackRequest,
    FeedbackResponse,
    RetractionOut,
)
from app.serving.feedback.text_warnings import warnings_of
from app.serving.service import Service
from pawl.domain.errors import ItemsRefused, SampleNotFound, UnknownPrediction
from pawl.domain.forms import Fault
from pawl.domain.predictions import Prediction
from pawl.domain.samples import DEFAULT_TASK, IdempotencyKey, NewSample, Receipt, SampleState

router = APIRouter(tags=["feedback"])

_BODY: TypeAdapter[FeedbackItem | FeedbackBatch] = TypeAdapter(FeedbackRequest)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

SampleId = Annotated[str, Path(alias="id", description="As `POST /v1/feedback` gave it.", examples=["fb_0199b6c2"])]


@router.post(
    "/v1/feedback",
    status_code=202,
    summary="Say what the right label is",
    response_model=FeedbackResponse,
    responses={
        202: {"headers": {"Location": {"description": "Where the first item is.", "schema": {"type": "string"}}}},
        **problems(*BODY, 429, 503),
    },
    openapi_extra=document(_BODY),
)
async def give_feedback(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(description="Same key and body again: the first answer. Same key, other body: 422.", examples=["7f3a"]),
    ] = None,
) -> Response:
    """One item, or `items`, all or none. The 202 is sent when they are durable; the next version learns them."""
    service = service_of(request)
    body = await read_body(request, _BODY)
    items = body.items if isinstance(body, FeedbackBatch) else [body]
    check_count("items", len(items), service.settings.max_texts)
    key = None
    if idempotency_key is not None:
        # The bytes that `read_body` has read are kept by the request. The digest is of these and not of the parsed
        # items: the same JSON written otherwise is another body.
        key = _key(idempotency_key, await request.body())
    service.backlog.admit(len(items))  # before SQL is asked for anything
    in_batch = isinstance(body, FeedbackBatch)
    samples = await _samples(service, items, in_batch=in_batch)
    try:
        receipts = await service.ports.samples.accept(samples, key)
    except ItemsRefused as error:
        raise _invalid_items(service, cast("list[Fault]", error.details["faults"]), in_batch=in_batch) from None
    fresh = [receipt.id for receipt in receipts if receipt.is_new]
    service.backlog.add(len(fresh))
    service.metrics.feedback_accepted.inc(len(receipts))
    service.metrics.feedback_warnings.inc(sum(len(receipt.warnings) for receipt in receipts))
    # a repeat is announced too when it still waits: its first announcement may be what got lost
    service.announcer.announce([receipt.id for receipt in receipts if receipt.state is SampleState.QUEUED])
    labelled = [
        (sample.task, sample.text, receipt.label or sample.label)
        for sample, receipt in zip(samples, receipts, strict=True)
    ]
    _count_answers(service, samples, receipts)
    # After the commit: what the encoder reads of a text changes nothing that was stored.
    warnings = await warnings_of(service.engine, service.ports.samples, labelled)
    return json_response(
        {"items": [_receipt(receipt, more) for receipt, more in zip(receipts, warnings, strict=True)]},
        202,
        {"location": f"/v1/feedback/{receipts[0].id}"},
    )


def _count_answers(service: Service, samples: Sequence[NewSample], receipts: Sequence[Receipt]) -> None:
    """Counts how often a later label disagrees with an answer, by the heads that gave it."""
    for sample, receipt in zip(samples, receipts, strict=True):
        if receipt.is_new and sample.served_by is not None:
            agrees = (receipt.label or sample.label) == sample.served_label
            service.metrics.feedback_answers.labels(sample.served_by, "yes" if agrees else "no").inc()


def _receipt(receipt: Receipt, more: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {"id": receipt.id, "state": receipt.state.value}
    if receipt.label is not None:
        content["label"] = receipt.label
    if receipt.warnings or more:
        content["warnings"] = [*receipt.warnings, *more]
    return content


def _invalid_items(service: Service, faults: Sequence[Fault], *, in_batch: bool) -> Problem:
    """The 422 that names every fault of every item."""
    for fault in faults:
        service.metrics.feedback_faults.labels(fault.field).inc()
    fields = [
        {"detail": fault.problem, "pointer": pointer(*(("items", fault.index) if in_batch else ()), fault.field)}
        for fault in faults
    ]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return invalid_body(f"{fields[0]['pointer']}: {fields[0]['detail']}{more}", fields)


def _key(value: str, raw: bytes) -> IdempotencyKey:
    if not _KEY.fullmatch(value):
        detail = "it must be 1 to 255 printable ASCII characters without spaces"
        raise Problem(
            422,
            f"Idempotency-Key: {detail}.",
            fields=[{"detail": detail, "header": "Idempotency-Key"}],
            slug="invalid-input",
        )
    return IdempotencyKey(value, hashlib.sha256(raw).hexdigest())


async def _samples(service: Service, items: Sequence[FeedbackItem], *, in_batch: bool) -> list[NewSample]:
    """The items as samples; raises one `Problem` that lists every fault where a prediction is not known."""
    wanted = [entry.prediction_id for entry in items if entry.prediction_id is not None]
    # One look-up for all items: each of its own would wait anew for what another process has not written yet.
    known = await service.recorder.find(wanted) if wanted else {}
    samples: dict[int, NewSample] = {}
    faults: list[Fault] = []
    for index, item in enumerate(items):
        try:
            samples[index] = _sample(item, known)
        except UnknownPrediction as error:
            faults.append(Fault(index, "prediction_id", str(error)))
    if faults:
        # `accept` is not reached, so the faults of the other items are asked for here: one answer names all of them.
        others = (await service.ports.samples.examine(list(samples.values()))).faults
        places = list(samples)
        faults += [Fault(places[entry.index], entry.field, entry.problem) for entry in others]
        raise _invalid_items(service, sorted(faults, key=lambda entry: entry.index), in_batch=in_batch)
    return list(samples.values())


def _sample(item: FeedbackItem, known: Mapping[str, Prediction]) -> NewSample:
    if item.prediction_id is None:
        return NewSample(
            text=item.text or "",
            label=item.label,
            task=item.task or DEFAULT_TASK,
            weight=item.weight,
            source=item.source,
            create_task=item.create_task,
        )
    prediction = known.get(item.prediction_id)
    if prediction is None:
        raise UnknownPrediction(prediction_id=item.prediction_id)
    return NewSample(
        text=prediction.text,
        label=item.label,
        task=prediction.task,
        weight=item.weight,
        source=item.source,
        prediction_id=prediction.id,
        served_version=prediction.version,
        served_label=prediction.label,
        served_by=prediction.by,
    )


def checked(sample_id: str) -> str:
    """The id, if it can be one; raises `SampleNotFound`."""
    # Not asked of SQL, which refuses some of what a path may hold (PostgreSQL a NUL).
    if not _ID.fullmatch(sample_id):
        raise SampleNotFound(sample_id=sample_id)
    return sample_id


@router.get(
    "/v1/feedback/{id}",
    summary="Where a piece of feedback is",
    response_model=FeedbackReadOut,
    responses=problems(404, 503),
)
async def get_feedback(request: Request, sample_id: SampleId) -> Response:
    """Its state, the version that learned it, or the reason why none did."""
    service = service_of(request)
    sample = await service.ports.samples.get(checked(sample_id))
    [warnings] = await warnings_of(service.engine, service.ports.samples, [(sample.task, sample.text, sample.label)])
    return json_response(fields_of(FeedbackOut, sample) | ({"warnings": warnings} if warnings else {}))


@router.delete(
    "/v1/feedback/{id}",
    status_code=202,
    summary="Take a piece of feedback back",
    response_model=RetractionOut,
    responses={200: {"model": RetractionOut, "description": "It has left already."}, **problems(404, 503)},
)
async def retract_feedback(request: Request, sample_id: SampleId) -> Response:
    """Its influence leaves the head exactly, with the next version (202) or because it never had any (200)."""
    service = service_of(request)
    sample = await service.ports.samples.request_retraction(checked(sample_id))
    trained_on = await service.ports.samples.versions_trained_on(sample.id)
    waits = sample.state in {SampleState.LEARNED, SampleState.QUEUED}
    if waits:
        service.announcer.announce([sample.id])
    return json_response({**fields_of(FeedbackOut, sample), "versions_trained_on": trained_on}, 202 if waits else 200)
