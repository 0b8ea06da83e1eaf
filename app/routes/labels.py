"""`GET`, `POST`, `PATCH`, `DELETE /v1/labels`; `GET /v1/labels/changes/{id}`.

A label that is to be changed is named in the query, where every label can be, or at the end of the path, where `.` and
`..` cannot: clients and proxies take them for parts of a path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, TypeAdapter
from starlette.responses import Response

from app.openapi import BODY, problems
from app.routes.access import json_response, service_of
from app.routes.body import document, read_body
from app.schemas.fields import as_line
from app.schemas.labels import LabelChangeOut, LabelPage, LabelPatch, NewLabel
from pawl.domain.admission import merge_command, probably_the_same
from pawl.domain.errors import LabelChangeNotFound
from pawl.domain.forms import TASK_PATTERN, clean_name, likeness
from pawl.domain.labels import LabelChange, LabelChangeKind, LabelRequest, LabelState, LabelSummary
from pawl.domain.samples import DEFAULT_TASK

router = APIRouter(tags=["labels"])

_NEW: TypeAdapter[NewLabel] = TypeAdapter(NewLabel)
_PATCH: TypeAdapter[LabelPatch] = TypeAdapter(LabelPatch)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
LOCATION = {"headers": {"Location": {"description": "Where the change is.", "schema": {"type": "string"}}}}

PathLabel = Annotated[
    str,
    AfterValidator(clean_name),
    Path(
        alias="label",
        description="The label, percent-encoded; it may hold slashes and spaces, but not be `.` or `..`.",
        examples=["card_arrival"],
    ),
]
QueryLabel = Annotated[
    str,
    AfterValidator(clean_name),
    Query(alias="label", description="Any label.", examples=["card_arrival"]),
]
TaskName = Annotated[str, Query(pattern=TASK_PATTERN, description="Label set.")]
Reason = Annotated[str, AfterValidator(as_line)]


@router.get("/v1/labels", summary="The labels of a task", response_model=LabelPage, responses=problems(422, 503))
async def list_labels(request: Request, task: TaskName = DEFAULT_TASK) -> Response:
    """Every label that has samples or was decided about, renamed, merged and retired ones included."""
    summaries = await service_of(request).ports.labels.summaries(task)
    active = {label.name: sum(label.samples.values()) for label in summaries if label.state is LabelState.ACTIVE}
    same = probably_the_same(task, active)
    return json_response({"task": task, "items": summaries, "probably_the_same": same})


@router.post(
    "/v1/labels",
    status_code=201,
    summary="Add a label",
    response_model=LabelChangeOut,
    responses={201: LOCATION, **problems(*BODY, 409, 429, 503)},
    openapi_extra=document(_NEW),
)
async def add_label(request: Request) -> Response:
    """It exists at once, before its first sample; a retired one comes back, without the samples it had.

    Where labels are open it need not be added: feedback that names a new label makes it.
    """
    body = await read_body(request, _NEW)
    asked = LabelRequest(LabelChangeKind.ADD, body.task, body.name, None, body.reason, create_task=body.create_task)
    return await ask_for(request, asked, 201)


@router.get(
    "/v1/labels/changes/{id}",
    summary="Where a change of a label is",
    response_model=LabelChangeOut,
    responses=problems(404, 503),
)
async def get_label_change(
    request: Request, change_id: Annotated[str, Path(alias="id", examples=["lc_0199b6c2"])]
) -> Response:
    """`pending` until the learner has carried it out; then the version that did, or the problem."""
    if not _ID.fullmatch(change_id):
        raise LabelChangeNotFound(change_id=change_id)
    return json_response(await service_of(request).ports.labels.get(change_id))


@router.patch(
    "/v1/labels",
    status_code=202,
    summary="Rename a label, or merge it into another",
    response_model=LabelChangeOut,
    responses={202: LOCATION, **problems(*BODY, 404, 409, 429, 503)},
    openapi_extra=document(_PATCH),
)
async def change_named_label(request: Request, label: QueryLabel, task: TaskName = DEFAULT_TASK) -> Response:
    """The next version answers with the new label, fitted as if every sample had always had it.

    Feedback that names the old label is taken for the new one from then on.
    """
    return await change_label(request, label, task)


@router.delete(
    "/v1/labels",
    status_code=202,
    summary="Retire a label",
    response_model=LabelChangeOut,
    responses={202: LOCATION, **problems(404, 409, 422, 429, 503)},
)
async def retire_named_label(
    request: Request,
    label: QueryLabel,
    task: TaskName = DEFAULT_TASK,
    reason: Annotated[Reason | None, Query(description="Why; kept with the version.")] = None,
) -> Response:
    """From the next version on it is never answered; its samples leave the head exactly.

    Feedback that names it is refused (422) until it is added again.
    """
    return await retire_label(request, label, task, reason)


@router.patch(
    "/v1/labels/{label:path}",
    status_code=202,
    summary="Rename a label, or merge it into another",
    response_model=LabelChangeOut,
    responses={202: LOCATION, **problems(*BODY, 404, 409, 429, 503)},
    openapi_extra=document(_PATCH),
)
async def change_label(request: Request, label: PathLabel, task: TaskName = DEFAULT_TASK) -> Response:
    """As `PATCH /v1/labels?label=`."""
    body = await read_body(request, _PATCH)
    kind = LabelChangeKind.RENAME if body.name is not None else LabelChangeKind.MERGE
    return await ask_for(request, LabelRequest(kind, task, label, body.name or body.merge_into, body.reason), 202)


@router.delete(
    "/v1/labels/{label:path}",
    status_code=202,
    summary="Retire a label",
    response_model=LabelChangeOut,
    responses={202: LOCATION, **problems(404, 409, 422, 429, 503)},
)
async def retire_label(
    request: Request,
    label: PathLabel,
    task: TaskName = DEFAULT_TASK,
    reason: Annotated[Reason | None, Query(description="Why; kept with the version.")] = None,
) -> Response:
    """As `DELETE /v1/labels?label=`."""
    return await ask_for(request, LabelRequest(LabelChangeKind.RETIRE, task, label, None, reason), 202)


async def ask_for(request: Request, asked: LabelRequest, status: int) -> Response:
    """Asks for a change; the answer names it and where it is."""
    labels = service_of(request).ports.labels
    change: LabelChange = await labels.request(asked)
    content: dict[str, Any] = asdict(change)
    made = {LabelChangeKind.ADD: change.label, LabelChangeKind.RENAME: change.target}.get(change.kind)
    if made is not None and (warnings := _alike(change, made, await labels.summaries(change.task))):
        content["warnings"] = warnings
    return json_response(content, status, {"location": f"/v1/labels/changes/{change.id}"})


def _alike(change: LabelChange, made: str, known: Sequence[LabelSummary]) -> list[str]:
    """What is to be said about a name that is probably another label's."""
    active = {label.name for label in known if label.state is LabelState.ACTIVE} - {change.label}
    return [
        f"{made!r} is probably the same as {other!r}; to make them one: {merge_command(change.task, made, other)}"
        for other in sorted(active - {made})
        if likeness(other) == likeness(made)
    ]
