"""How a route gets at the service, and how it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from app.serving.service import Service


def service_of(request: Request) -> Service:
    """The service of the app that the request came to."""
    return cast("Service", request.app.state.service)


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Plain values, dataclasses, enums and times as JSON."""
    return Response(to_json(content), status, headers, "application/json")


def fields_of(shape: type[BaseModel], value: object) -> dict[str, Any]:
    """The attributes of a value that an answer of this shape has."""
    return {name: getattr(value, name) for name in shape.model_fields}


def page_of(shape: type[BaseModel], read: Sequence[object], limit: int, position: str) -> dict[str, Any]:
    """A page of at most `limit` items of one more that were read. `next` is the last one's position, if more follow."""
    shown = read[:limit]
    following = getattr(shown[-1], position) if len(read) > limit else None
    return {"items": [fields_of(shape, value) for value in shown], "next": following}
