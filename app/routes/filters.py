"""The query parameters that narrow a list of samples, and the ones that page through it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator

from pawl.domain.forms import clean_name

_LARGEST = 2**63 - 1  # positions are 64-bit integers in SQL, which refuses larger ones
_LONGEST = 200
_Name = Annotated[str, AfterValidator(clean_name)]

OnlyTask = Annotated[str | None, Query(max_length=_LONGEST, description="Only this label set.")]
OnlySource = Annotated[_Name | None, Query(description="Only from this source.")]
OnlyLabel = Annotated[_Name | None, Query(description="Only with this label.")]
Before = Annotated[int | None, Query(ge=1, le=_LARGEST, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Most items in the answer.")]
