"""`GET /v1/tasks`, `DELETE /v1/tasks/{task}`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator
from starlette.responses import Response

from app.openapi import problems
from app.routes.access import json_response, service_of
from app.routes.labels import LOCATION, Reason, ask_for
from app.schemas.labels import LabelChangeOut
from app.schemas.tasks import TaskList
from pawl.domain.forms import TASK_PATTERN, clean_name
from pawl.domain.labels import LabelChangeKind, LabelRequest

router = APIRouter(tags=["labels"])

Source = Annotated[str, AfterValidator(clean_name)]


@router.get("/v1/tasks", summary="All tasks", response_model=TaskList, responses=problems(422, 503))
async def list_tasks(
    request: Request,
    source: Annotated[
        Source | None, Query(description="Only tasks in which this source has samples, with these alone.")
    ] = None,
) -> Response:
    """Every task that samples may be sent for: `default`, and those that have samples, decided labels or a head."""
    return json_response({"items": await service_of(request).ports.labels.tasks(source)})


@router.delete(
    "/v1/tasks/{task}",
    status_code=202,
    summary="Drop a task",
    response_model=LabelChangeOut,
    responses={202: LOCATION, **problems(404, 409, 422, 429, 503)},
)
async def drop_task(
    request: Request,
    task: Annotated[str, Path(pattern=TASK_PATTERN, description="The task.", examples=["sentiment"])],
    source: Annotated[Source | None, Query(description="Drop only what this source said.")] = None,
    reason: Annotated[Reason | None, Query(description="Why; kept with the version.")] = None,
) -> Response:
    """Its samples leave exactly, golden ones too, and its head goes, with the version that `Location` will name.

    With a `source` only what that said, and the labels that nobody else used; the task too where nothing is left.
    What a consolidation trained into the encoder stays there. Afterwards predictions of the task are a 422, and so is
    feedback until `create_task` is said.
    """
    return await ask_for(request, LabelRequest(LabelChangeKind.DROP, task, "", source, reason), 202)
