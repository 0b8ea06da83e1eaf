"""How a route gets at the service."""

from __future__ import annotations

from typing import cast

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
