"""The fields that requests share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_ITEMS = 10_000
"""`max_texts` is the limit that counts; this one bounds the work of refusing."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
TASK_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


def _encodable(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("it holds a lone surrogate, which is no character") from None
    return value


def _text(value: str) -> str:
    if not value or value.isspace():
        raise ValueError("it is empty")
    if "\0" in value:
        raise ValueError("it holds a NUL character")
    return _encodable(value)


def as_line(value: str) -> str:
    """A name or a reason without outer spaces; `ValueError` says what is wrong with it."""
    value = _encodable(value).strip()
    if not 1 <= len(value) <= 200:
        raise ValueError("it must have 1 to 200 characters besides outer spaces")
    if _CONTROL.search(value):
        raise ValueError("it holds a control character")
    return value


Text = Annotated[
    str,
    AfterValidator(_text),
    Field(min_length=1, description="Any length up to the body limit; the model reads the first `max_tokens` tokens."),
]
Line = Annotated[str, AfterValidator(as_line), Field(min_length=1)]
Task = Annotated[str, Field(pattern=TASK_PATTERN, description="Label set; several share one encoder.")]


class Request(BaseModel):
    """Strict: no unknown field, no conversion."""

    model_config = ConfigDict(extra="forbid", strict=True)
