"""`GET /v1/model`: what serves here and how learning goes."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.openapi import problems
from app.routes.access import fields_of, json_response, service_of
from app.schemas.versions import ModelOut, WordsOut
from app.serving.health.backlog import LearningStatus
from app.serving.predictions.engine import LoadedVersion
from pawl.processes.parts import Part, read_parts

router = APIRouter(tags=["versions"])


@router.get("/v1/model", summary="The live version", response_model=ModelOut, responses=problems(503))
async def get_model(request: Request) -> Response:
    """Labels per task, since when it serves, the queue of feedback and the learner's heartbeat.

    Where the database does not answer, the last it said is told, with its age.
    """
    service = service_of(request)
    live = service.engine.ready()
    content = {
        **_served(live),
        **_learning(await service.backlog.newest()),
        "contradictions": [str(each) for each in service.contradictions.found],
        "version_problem": service.reloader.problem,
        # A file that the supervisor writes: another process, so nothing but the disk knows of it.
        "parts": [_part(part) for part in await asyncio.to_thread(read_parts, service.settings.home_path)],
        "transport": "redis" if service.ports.stream.carries else "sql",
        "transport_problem": service.stream.problem,
    }
    headers = {} if live is None else {"x-pawl-version": str(live.number)}
    return json_response(content, headers=headers)


def _served(live: LoadedVersion | None) -> dict[str, Any]:
    if live is None:
        return {"version": None, "kind": None, "serving_since": None, "encoder_digest": None, "tasks": {}, "words": {}}
    manifest = live.classifier.manifest
    return {
        "version": live.number,
        "kind": manifest.kind,
        "serving_since": live.since,
        "encoder_digest": manifest.encoder_digest,
        "tasks": {task: head.labels for task, head in manifest.heads.items()},
        "words": {
            task: fields_of(WordsOut, head.lexical) for task, head in manifest.heads.items() if head.lexical is not None
        },
    }


def _part(part: Part) -> dict[str, Any]:
    return asdict(part) | {"well": part.is_well}


def _learning(known: LearningStatus | None) -> dict[str, Any]:
    if known is None:
        return {"queue": None, "learner": None, "as_of": None, "age_seconds": None}
    now, backlog, learner = datetime.now(UTC), known.backlog, known.learner
    age = (now - backlog.oldest_at).total_seconds() if backlog.oldest_at is not None else None
    status = learner and {
        "state": learner.state,
        "alive": learner.expires_at > now,
        "heartbeat_at": learner.heartbeat_at,
        "details": learner.details,
        "problem": learner.details.get("problem"),
    }
    return {
        "queue": {"length": backlog.length, "oldest_age_seconds": age},
        "learner": status,
        "as_of": known.as_of,
        "age_seconds": (now - known.as_of).total_seconds(),
    }
