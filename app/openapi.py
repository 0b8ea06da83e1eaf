"""The OpenAPI description: what FastAPI writes, with request models among the components and errors as problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.errors import PROBLEM, ProblemOut

_MEANING = {
    400: "The body is not JSON, or nested too deeply.",
    404: "It does not exist.",
    409: "It conflicts with the present state.",
    413: "The body is larger than the limit.",
    415: "The body is not declared as JSON in UTF-8, or it is compressed.",
    422: "The request is not valid; `errors` says where.",
    429: "A queue is full; try again after `Retry-After` seconds.",
    500: "A fault of the service.",
    503: "No version, a store that is away, or the process is stopping; try again after `Retry-After` seconds.",
    504: "The answer was not ready in time.",
}
BODY = (400, 413, 415, 422)
"""Statuses of any route that reads a body."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses and 500."""
    schema = {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}
    return {
        status: {"description": _MEANING[status], "content": {PROBLEM: {"schema": schema}}}
        for status in sorted({*statuses, 500})
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """Makes the description once and keeps it on the app."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        components = made.setdefault("components", {}).setdefault("schemas", {})
        components[ProblemOut.__name__] = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
        _lift_definitions(made["paths"], components)
        _lift_definitions(components, components)
        _drop_own_validation(made["paths"], components)
        app.openapi_schema = made
    return app.openapi_schema


def _drop_own_validation(paths: dict[str, Any], components: dict[str, Any]) -> None:
    """FastAPI adds a 422 of its own kind to every route with a parameter; where none can happen it goes."""
    for call in (call for methods in paths.values() for call in methods.values()):
        if PROBLEM not in call["responses"].get("422", {"content": {PROBLEM: {}}})["content"]:
            del call["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)


def _lift_definitions(node: Any, components: dict[str, Any]) -> None:
    if isinstance(node, dict):
        components.update(node.pop("$defs", {}))
        # a component lifted above may join the dict being walked
        for value in list(node.values()):
            _lift_definitions(value, components)
    elif isinstance(node, list):
        for value in node:
            _lift_definitions(value, components)
