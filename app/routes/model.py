"""`GET /v1/model`: what serves here and how learning goes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.core.domain.errors import StoreUnavailable
from app.openapi import problems
from app.routes.access import json_response, service_of
from app.schemas.versions import ModelOut
from app.serving.service import Service

log = structlog.get_logger(__name__)
router = APIRouter(tags=["versions"])


@router.get("/v1/model", summary="The live version", response_model=ModelOut, responses=problems(503))
async def get_model(request: Request) -> Response:
    """Labels per task, since when it serves, the queue of feedback and the learner's heartbeat."""
    service = service_of(request)
    live = service.engine.check_ready()
    manifest = live.classifier.manifest
    content = {
        "version": live.number,
        "kind": manifest.kind,
        "serving_since": live.since,
        "encoder_digest": manifest.encoder_digest,
        "tasks": {task: head.labels for task, head in manifest.heads.items()},
        **await _learning(service),
        "transport": "redis" if service.ports.stream.carries else "sql",
    }
    return json_response(content, headers={"x-pawl-version": str(live.number)})


async def _learning(service: Service) -> dict[str, Any]:
    try:
        backlog = await service.backlog.refresh()
        learner = await service.ports.ledger.learner_status()
    except StoreUnavailable as error:
        log.info("model_without_store", problem=str(error))
        return {"queue": None, "learner": None}
    now = datetime.now(UTC)
    age = (now - backlog.oldest_at).total_seconds() if backlog.oldest_at is not None else None
    status = learner and {
        "state": learner.state,
        "alive": learner.expires_at > now,
        "heartbeat_at": learner.heartbeat_at,
        "details": learner.details,
    }
    return {"queue": {"length": backlog.length, "oldest_age_seconds": age}, "learner": status}
