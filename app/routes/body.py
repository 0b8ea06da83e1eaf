"""Request bodies: bytes to a checked model, or a problem that says what is wrong with them.

FastAPI's own body parameters are not used: reading the bytes with pydantic's parser is faster, tells "not JSON" (400)
from "not valid" (422), and survives nesting of any depth. `document` puts the model into the OpenAPI description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from app.errors import FieldError, Problem, pointer
from app.routes.access import service_of

T = TypeVar("T")

# `errors()` makes objects of every fault: beyond this number they are only counted.
_MOST_LISTED = 1000
_TAGS = {"item", "batch"}


async def read_body(request: Request, shape: TypeAdapter[T]) -> T:
    """The body in its shape. Raises `Problem` 400, 413, 415 or 422; `max_texts` is named where a list is too long."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        detail = f"The body must not be compressed (content-encoding {encoding!r})."
        raise Problem(415, detail, slug="compressed", headers={"accept-encoding": "identity"})
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    kind = kind.strip()
    charset = re.search(r"(?:^|;)\s*charset\s*=\s*\"?([^\s\";]*)", parameters)
    if charset is not None and charset[1] not in {"utf-8", "utf8", "us-ascii"}:
        raise Problem(415, f"The body must be UTF-8, not {charset[1]!r}.", slug="not-utf-8")
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(415, f"The body must be JSON (content-type application/json), not {kind!r}.", slug="not-json")
    raw = await request.body()
    try:
        return shape.validate_json(raw)
    except ValidationError as error:
        # The fast parser's "not JSON" is always one error alone. What it could not parse is tried again below, to say
        # where.
        if error.error_count() > 1 or error.errors(include_input=False)[0]["type"] != "json_invalid":
            raise _invalid(error, service_of(request).settings.max_texts) from None
    try:
        # the fast parser refuses a lone surrogate; this one reads it, so that the answer can name the field
        return shape.validate_python(json.loads(raw.decode()))
    except ValidationError as error:
        raise _invalid(error, service_of(request).settings.max_texts) from None
    except RecursionError:  # the fast parser has a limit of its own; this is the slow one's
        raise Problem(400, "The body is nested too deeply.", slug="not-json") from None
    except ValueError as error:
        raise Problem(400, f"The body is not JSON: {_where(error)}.", slug="not-json") from None


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number is too long"


def _invalid(error: ValidationError, most_items: int) -> Problem:
    count = error.error_count()
    if count > _MOST_LISTED:
        return Problem(422, f"The body is not valid: {count} faults.", slug="invalid-input")
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    fields = [_field(fault["type"], fault["loc"], fault["msg"], most_items) for fault in faults]
    first = fields[0]
    more = f" (and {count - 1} more)" if count > 1 else ""
    return invalid_body(f"{first['pointer']}: {first['detail']}{more}", fields)


def _field(kind: str, location: Sequence[int | str], message: str, most_items: int) -> FieldError:
    path = location[1:] if location and location[0] in _TAGS else location
    if kind == "too_long":
        message = f"at most {most_items} in one request"
    return {"detail": message.removeprefix("Value error, "), "pointer": pointer(*path)}


def invalid_body(detail: str, fields: Sequence[FieldError]) -> Problem:
    """A 422 about the body."""
    return Problem(422, f"The body is not valid: {detail}", fields=fields, slug="invalid-input")


def check_count(field: str, count: int, most: int) -> None:
    """Raises a 422 that names the limit when a list is longer."""
    if count > most:
        detail = f"at most {most} in one request"
        raise invalid_body(f"{pointer(field)}: {detail}, not {count}", [{"detail": detail, "pointer": pointer(field)}])


def document(shape: TypeAdapter[Any], *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body with `shape`; `app/openapi.py` moves the `$defs`."""
    schema = shape.json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
