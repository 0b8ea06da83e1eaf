"""`POST /v1/feedback`, `GET` and `DELETE /v1/feedback/{id}`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Path, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from app.core.domain.errors import LabelRetired, PawlError, SampleNotFound, UnknownLabel, UnknownPrediction, UnknownTask
from app.core.domain.labels import LabelRecord, resolve
from app.core.domain.predictions import Prediction
from app.core.domain.samples import DEFAULT_TASK, IdempotencyKey, NewSample, Receipt, Sample, SampleState
from app.errors import Problem, pointer
from app.openapi import BODY, problems
from app.routes.access import json_response, service_of
from app.routes.body import check_count, document, invalid_body, read_body
from app.schemas.feedback import (
    FeedbackBatch,
    FeedbackItem,
    FeedbackOut,
    FeedbackRequest,
    FeedbackResponse,
    RetractionOut,
)
from app.serving.service import Service

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
    body = await read_body(request, _BODY, service.settings.max_texts)
    items = body.items if isinstance(body, FeedbackBatch) else [body]
    check_count("items", len(items), service.settings.max_texts)
    key = None
    if idempotency_key is not None:
        key = _key(idempotency_key, await request.body())
    service.backlog.admit(len(items))
    in_batch = isinstance(body, FeedbackBatch)
    samples = await _samples(service, items, in_batch=in_batch)
    try:
        receipts = await service.ports.samples.accept(samples, key)
    except LabelRetired as error:
        raise _retired(samples, error, in_batch=in_batch) from None
    fresh = [one.id for one in receipts if one.is_new]
    service.backlog.add(len(fresh))
    service.metrics.feedback_accepted.inc(len(receipts))
    # a repeat is announced too when it still waits: its first announcement may be what got lost
    service.announcer.announce([one.id for one in receipts if one.state is SampleState.QUEUED])
    return json_response(
        {"items": [_receipt(one) for one in receipts]},
        202,
        {"location": f"/v1/feedback/{receipts[0].id}"},
    )


def _receipt(one: Receipt) -> dict[str, str]:
    told = {"id": one.id, "state": one.state.value}
    return told if one.label is None else told | {"label": one.label}


def _retired(samples: Sequence[NewSample], error: LabelRetired, *, in_batch: bool) -> Problem:
    """The 422 that names every item with a retired label."""
    places = cast("tuple[int, ...]", error.details["positions"])
    faults = []
    for place in places:
        path = ("items", place, "label") if in_batch else ("label",)
        sample = samples[place]
        faults.append({"detail": str(LabelRetired(label=sample.label, task=sample.task)), "pointer": pointer(*path)})
    return _invalid_items(faults)


def _invalid_items(faults: Sequence[dict[str, str]]) -> Problem:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return invalid_body(f"{faults[0]['pointer']}: {faults[0]['detail']}{more}", faults)


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
    """The items as samples; raises one `Problem` that lists every item that cannot be one."""
    wanted = [one.prediction_id for one in items if one.prediction_id is not None]
    known = await service.recorder.find(wanted) if wanted else {}
    labels = await _decided(service, {one.task or DEFAULT_TASK for one in items} | {p.task for p in known.values()})
    samples, faults = [], []
    for index, item in enumerate(items):
        try:
            sample = _sample(item, known)
            _check_label(service, sample, labels.get(sample.task, {}))
        except PawlError as error:
            field = "prediction_id" if isinstance(error, UnknownPrediction) else "label"
            field = "task" if isinstance(error, UnknownTask) else field
            path = ("items", index, field) if in_batch else (field,)
            faults.append({"detail": str(error), "pointer": pointer(*path)})
        else:
            samples.append(sample)
    if faults:
        raise _invalid_items(faults)
    return samples


def _sample(item: FeedbackItem, known: Mapping[str, Prediction]) -> NewSample:
    if item.prediction_id is None:
        return NewSample(
            text=item.text or "",
            label=item.label,
            task=item.task or DEFAULT_TASK,
            weight=item.weight,
            source=item.source,
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
    )


async def _decided(service: Service, tasks: set[str]) -> dict[str, dict[str, LabelRecord]]:
    """What is decided about the labels of these tasks; asked for only where they are closed."""
    if not service.settings.closed_labels:
        return {}
    return {task: await service.ports.labels.records(task) for task in sorted(tasks)}


def _check_label(service: Service, sample: NewSample, decided: Mapping[str, LabelRecord]) -> None:
    """Where labels are closed: one must be in the live head or have been added, or stand for one that is."""
    live = service.engine.live
    if not service.settings.closed_labels or live is None:
        return
    heads = live.classifier.manifest.heads
    known = heads[sample.task].labels if sample.task in heads else ()
    if not known and not decided:
        raise UnknownTask(task=sample.task, version=live.number, known=sorted(heads))
    label = resolve(decided, sample.task, sample.label)
    if label not in known and label not in decided:
        raise UnknownLabel(label=sample.label, task=sample.task, known=list(known))


def _out(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in FeedbackOut.model_fields}


def checked(sample_id: str) -> str:
    """The id, if it can be one; raises `SampleNotFound`."""
    if not _ID.fullmatch(sample_id):
        raise SampleNotFound(sample_id=sample_id)
    return sample_id


@router.get(
    "/v1/feedback/{id}",
    summary="Where a piece of feedback is",
    response_model=FeedbackOut,
    responses=problems(404, 503),
)
async def get_feedback(request: Request, sample_id: SampleId) -> Response:
    """Its state, the version that learned it, or the reason why none did."""
    return json_response(_out(await service_of(request).ports.samples.get(checked(sample_id))))


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
    return json_response({**_out(sample), "versions_trained_on": trained_on}, 202 if waits else 200)
