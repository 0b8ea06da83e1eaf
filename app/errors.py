"""The one table from error to HTTP status, and the RFC 9457 `application/problem+json` answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.responses import Response

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
_OUR_FAULT = "Something went wrong in the service."

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


def problem_of(error: Exception) -> Problem:
    """The problem that answers a request which an error ended. Of a fault of ours it shows nothing but that."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.PawlError):
        return _of_domain(error)
    if isinstance(error, RequestValidationError):
        return _of_parameters(error)
    return Problem(500, _OUR_FAULT, slug="internal")


def _of_domain(error: errors.PawlError) -> Problem:
    # The nearest class of the table: an error that has no line there has its parent's status.
    status = next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 500)
    headers = {}
    if status in {429, 503}:
        wait = error.details.get("retry_after", RETRY_AFTER_SECONDS)
        # Whole seconds (RFC 9110), and never 0: clients would ask again at once.
        headers["retry-after"] = str(max(1, math.ceil(wait)) if isinstance(wait, int | float) else RETRY_AFTER_SECONDS)
    # `public` says neither where a server is nor what it said.
    return Problem(status, error.public if status != 500 else _OUR_FAULT, headers=headers, slug=_slug(type(error)))


def _slug(cls: type[Exception]) -> str:
    name = cls.__name__
    return "".join(("-" if index and char.isupper() else "") + char.lower() for index, char in enumerate(name))


def _of_parameters(error: RequestValidationError) -> Problem:
    fields = [
        {"detail": str(fault["msg"]), "header" if fault["loc"][0] == "header" else "parameter": str(fault["loc"][-1])}
        for fault in error.errors()
    ]
    return Problem(422, "A parameter of the request is not valid.", fields=fields, slug="invalid-input")
