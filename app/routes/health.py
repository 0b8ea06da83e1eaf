"""`/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from app.openapi import problems
from app.routes.access import json_response, service_of
from app.schemas.versions import StatusOut
from pawl.domain.errors import NoLiveVersion

router = APIRouter(tags=["health"])


@router.get("/livez", summary="The process answers", response_model=StatusOut, responses=problems())
async def is_alive(request: Request) -> Response:
    """Depends on nothing outside the process."""
    return json_response({"status": "alive", "version": service_of(request).engine.number or None})


@router.get("/readyz", summary="It can do its work", response_model=StatusOut, responses=problems(503))
async def is_ready(request: Request) -> Response:
    """200 with a version that is loaded and warm, also while the next one loads; and where nothing was ever learned:
    labels are welcome. 503, with the reason, while the first version loads or cannot be, and while the process drains.
    """
    live = service_of(request).engine.ready()
    if live is None:
        return json_response({"status": "ready", "version": None, "detail": str(NoLiveVersion())})
    return json_response({"status": "ready", "version": live.number})


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, responses=problems())
async def get_metrics(request: Request) -> Response:
    """The text format. Of several processes behind one socket, each sample has a label `process`."""
    return Response(service_of(request).exposition(), media_type=CONTENT_TYPE_LATEST)
