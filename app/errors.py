"""The one table from error to HTTP status, and the RFC 9457 `application/problem+json` answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.http.methods import allowed_methods
from pawl.domain import errors

PROBLEM = "application/problem+json"

STATUS: dict[type[errors.PawlError], int] = {
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Overloaded: 429,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
}
"""Status of an error class and of the classes below it; what is not here is a 500."""

RETRY_AFTER_SECONDS = 1
_MOST_ERRORS = 100

log = structlog.get_logger(__name__)

FieldError = dict[str, str]
"""One entry of `errors`: `detail`, and where: `pointer` (body), `parameter` (path, query) or `header`."""


class FieldErrorOut(BaseModel):
    """One fault and its place: `pointer` into the body (RFC 6901), a `parameter`, or a `header`."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class ProblemOut(BaseModel):
    """RFC 9457 problem details, as they are documented."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldErrorOut] | None = None


class Problem(Exception):
    """An answer that is not a success; raised by what reads requests, before there is a domain error to speak of."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        fields: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        slug: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = list(fields[:_MOST_ERRORS])
        self.headers = dict(headers or {})
        self.slug = slug

    def response(self) -> Response:
        """The answer. ASCII JSON: lone surrogates a client sent in a name cannot break the encoding."""
        title = HTTPStatus(self.status).phrase
        body: dict[str, Any] = {
            "type": f"urn:pawl:{self.slug}" if self.slug else "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.fields:
            body["errors"] = self.fields
        return Response(json.dumps(body), self.status, self.headers, PROBLEM)


def pointer(*path: object) -> str:
    """A JSON pointer as a URI fragment, e.g. `#/items/3/label` (RFC 6901)."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def problem_of(error: errors.PawlError) -> Problem:
    """Translates a domain error."""
    status = next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 500)
    headers = {}
    if status in {429, 503}:
        wait = error.details.get("retry_after", RETRY_AFTER_SECONDS)
        headers["retry-after"] = str(max(1, math.ceil(wait)) if isinstance(wait, int | float) else RETRY_AFTER_SECONDS)
    detail = error.public if status != 500 else "Something went wrong in the service."
    return Problem(status, detail, headers=headers, slug=_slug(type(error)))


def _slug(cls: type[Exception]) -> str:
    name = cls.__name__
    return "".join(("-" if index and char.isupper() else "") + char.lower() for index, char in enumerate(name))


def internal_problem() -> Problem:
    """What a client sees of a fault of ours: nothing but that it is ours."""
    return Problem(500, "Something went wrong in the service.", slug="internal")


def response_to(path: str, error: errors.PawlError | Problem) -> Response:
    """The answer to a request that an error ended. What is our own fault is logged, not shown."""
    if isinstance(error, Problem):
        return error.response()
    problem = problem_of(error)
    if problem.status == 500:
        log.error("request_failed", path=path, exc_info=error)
    return problem.response()


async def _on_error(request: Request, error: Exception) -> Response:
    return response_to(request.url.path, cast("errors.PawlError | Problem", error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    error = cast("HTTPException", error)
    details = {
        404: f"There is nothing at {request.url.path}; see /docs.",
        405: f"{request.method} is not allowed on {request.url.path}.",
    }
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:  # the router names the methods of one route, and a path has several
        headers["allow"] = ", ".join(allowed_methods(request.app.routes, request.url.path))
    return Problem(error.status_code, details.get(error.status_code, str(error.detail)), headers=headers).response()


async def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    fields = [
        {"detail": str(one["msg"]), "header" if one["loc"][0] == "header" else "parameter": str(one["loc"][-1])}
        for one in cast("RequestValidationError", error).errors()
    ]
    return Problem(422, "A parameter of the request is not valid.", fields=fields, slug="invalid-input").response()


def install(app: FastAPI) -> None:
    """Registers the handlers on an app."""
    app.add_exception_handler(errors.PawlError, _on_error)
    app.add_exception_handler(Problem, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
