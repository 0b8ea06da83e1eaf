"""`POST /v1/predict`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.responses import Response

from app.http.disconnects import ended_with_client
from app.openapi import BODY, problems
from app.routes.access import json_response, service_of
from app.routes.body import check_count, document, invalid_body, read_body
from app.schemas.predictions import PredictRequest, PredictResponse
from app.serving.predictions.engine import ServedClassifier
from app.serving.service import Service
from pawl.domain.errors import OneLabel, UnknownTask
from pawl.domain.identifiers import PREDICTION_PREFIX, new_identifier
from pawl.domain.labels import FEWEST_LABELS
from pawl.domain.predictions import Answer, Prediction

router = APIRouter(tags=["predictions"])

_BODY = TypeAdapter(PredictRequest)


@router.post(
    "/v1/predict",
    summary="Label texts with the live version",
    response_model=PredictResponse,
    responses=problems(*BODY, 409, 429, 503, 504),
    openapi_extra=document(_BODY),
)
async def predict(request: Request) -> Response:
    """Answers keep the order of the texts and all come from one version, which `x-pawl-version` names.

    With `min_version`, the answer comes from that version or a later one: read your own correction.
    """
    service = service_of(request)
    settings = service.settings
    body = await read_body(request, _BODY)
    texts = body.all_texts
    check_count("texts", len(texts), settings.max_texts)
    if body.wait_ms > settings.max_wait_ms:
        detail = f"at most {settings.max_wait_ms}"
        raise invalid_body(f"#/wait_ms: {detail}", [{"detail": detail, "pointer": "#/wait_ms"}])
    # Only now: it drops what else `receive` brings, so the body has to be complete.
    with ended_with_client(request.receive):
        if body.min_version is not None:
            await service.engine.wait_for(body.min_version, body.wait_ms / 1000)
        with service.engine.lease() as version:
            # Of the leased version: a swap meanwhile may bring the task or take it away.
            head = version.manifest.heads.get(body.task)
            if head is None:
                raise UnknownTask(task=body.task, version=version.number, known=sorted(version.manifest.heads))
            if len(head.labels) < FEWEST_LABELS:
                raise OneLabel(task=body.task, label=", ".join(head.labels))
            answers = await _answers(service, version, texts, body.task, min(body.top_k, len(head.labels)))
            number = version.number
    # After the lease: while JSON is made no replaced version has to stay in memory.
    ids = _log(service, number, body.task, texts, answers) if settings.log_predictions else [None] * len(texts)
    predictions: list[dict[str, object]] = [
        {
            "id": id,
            "label": answer.label,
            "score": answer.score,
            "scores": answer.scores,
            "novelty": answer.novelty,
            "by": answer.by,
        }
        for id, answer in zip(ids, answers, strict=True)
    ]
    for content, answer in zip(predictions, answers, strict=True):
        if answer.warnings:
            content["warnings"] = answer.warnings
    return json_response({"version": number, "predictions": predictions}, headers={"x-pawl-version": str(number)})


ROUTE = next(route for route in router.routes if isinstance(route, APIRoute))
"""What the edge calls directly (`app/http/edge.py`)."""


async def _answers(
    service: Service, version: ServedClassifier, texts: Sequence[str], task: str, top_k: int
) -> list[Answer]:
    """Computed, but for those that are kept from before."""
    if not service.answers.enabled:
        return await service.cascade.submit(version, texts, task=task, top_k=top_k)
    known = service.answers.find(version.number, task, top_k, texts)
    fresh: dict[str, Answer] = {}
    # Once each: a text that comes twice in a request has one answer.
    missing = list(dict.fromkeys(text for text, answer in zip(texts, known, strict=True) if answer is None))
    if missing:
        computed = await service.cascade.submit(version, missing, task=task, top_k=top_k)
        service.answers.keep(version.number, task, top_k, missing, computed)
        fresh = dict(zip(missing, computed, strict=True))
    return [answer or fresh[text] for text, answer in zip(texts, known, strict=True)]


def _log(
    service: Service, version: int, task: str, texts: Sequence[str], answers: Sequence[Answer]
) -> Sequence[str | None]:
    now = datetime.now(UTC)
    rows = [
        Prediction(new_identifier(PREDICTION_PREFIX), version, task, text, answer.label, answer.score, answer.by, now)
        for text, answer in zip(texts, answers, strict=True)
    ]
    service.recorder.record(rows)
    return [row.id for row in rows]
