"""The fields that requests share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict, JsonValue

from pawl.domain.forms import TASK_PATTERN, clean_name, clean_task, clean_text

MOST_ITEMS = 10_000
"""`max_texts` is the limit that counts; this one bounds the work of refusing."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _encodable(value: str) -> str:
    if not value.isascii():
        try:
            # JSON may escape half a surrogate pair; no database and no tokenizer takes it.
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("it holds a lone surrogate, which is no character") from None
    return value


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
    AfterValidator(clean_text),
    Field(min_length=1, description="Any length up to the body limit; the model reads the first `max_tokens` tokens."),
]
Line = Annotated[str, AfterValidator(as_line), Field(min_length=1)]
Label = Annotated[
    str,
    AfterValidator(clean_name),
    Field(
        min_length=1,
        description="1 to 200 characters; kept in NFC, without surrounding white space and invisible characters.",
    ),
]
Task = Annotated[
    str,
    AfterValidator(clean_task),
    Field(description="Label set; several share one encoder.", json_schema_extra={"pattern": TASK_PATTERN}),
]


def exactly_one(*names: str, examples: list[JsonValue]) -> JsonDict:
    """`json_schema_extra` of a request that has one of these fields; null is as good as not there."""
    nothing: JsonDict = {"type": "null"}
    forms: list[JsonValue] = []
    for name in names:
        fields: JsonDict = {other: {"not": nothing} if other == name else nothing for other in names}
        forms.append({"required": [name], "properties": fields})
    return {"examples": examples, "oneOf": forms}


class StrictBody(BaseModel):
    """Strict: no unknown field, no conversion."""

    model_config = ConfigDict(extra="forbid", strict=True)
