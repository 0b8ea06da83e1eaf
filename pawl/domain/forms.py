"""The form of what a sample is made of: texts, labels, sources, weights, task names. Pure rules, no I/O.

Every function takes what was sent, returns it as it is kept, and raises `ValueError` that says what is wrong with it,
in the words that every entrance shows. Cleaning twice changes nothing more.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from pawl.domain.errors import TaskNotCreated
from pawl.domain.samples import NewSample

TASK_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
LONGEST_NAME = 200
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 100.0
"""Beyond these a sample is either nothing to the head or all of it."""

_CONTROL_SPACE = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]")
# Unicode's Default_Ignorable_Code_Point, the control characters and the interlinear annotations: nobody sees them.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Without the anchors, for `fullmatch`: `$` also matches before a line break at the end. OpenAPI needs them.
_TASK = re.compile(TASK_PATTERN.removeprefix("^").removesuffix("$"))


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one of several items cannot be a sample: its place among them, the field at fault, the problem."""

    index: int
    field: str
    problem: str


def clean_text(value: object) -> str:
    """A text in NFC, otherwise as it was sent."""
    text = _string(value)
    if not text or text.isspace():
        raise ValueError("it is empty")
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def clean_name(value: object) -> str:
    """A label or a source: NFC, without surrounding white space, without characters that nobody sees.

    Tabs and line breaks inside become spaces, so that no two words become one.
    """
    name = _CONTROL_SPACE.sub(" ", _string(value))
    name = unicodedata.normalize("NFC", _UNSEEN.sub("", name)).strip()
    if not name:
        raise ValueError("nothing is left of it without white space and invisible characters")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"it is longer than {LONGEST_NAME} characters")
    return name


def clean_weight(value: object) -> float:
    """A weight: how many labels a sample counts as."""
    if isinstance(value, bool) or not isinstance(value, int | float):  # `true` is an int in Python
        raise ValueError("it must be a number")  # noqa: TRY004 - one error for all
    if not math.isfinite(value) or not LEAST_WEIGHT <= value <= MOST_WEIGHT:
        raise ValueError(f"it must be from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")
    return float(value)


def clean_task(value: object) -> str:
    """The name of a task."""
    name = _string(value)
    if not _TASK.fullmatch(name):
        raise ValueError("a task's name has 1 to 64 of a-z, 0-9, _ and -, and begins with a letter or a digit")
    return name


def likeness(label: str) -> str:
    """What labels have in common that differ only by case, white space or the width of their characters."""
    # Twice: case folding can yield characters that NFKC composes or maps again.
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(unicodedata.normalize("NFKC", folded).split())


def cleaned(item: NewSample, index: int, most_bytes: int | None) -> tuple[NewSample, list[Fault]]:
    """An item as it is kept, and what is wrong with it; `most_bytes` is the longest text, in UTF-8."""
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    for name, clean in (("text", clean_text), ("label", clean_name), ("task", clean_task)):
        try:
            values[name] = clean(getattr(item, name))
        except ValueError as error:
            faults.append(Fault(index, name, str(error)))
    for name, value, check in (("source", item.source, clean_name), ("weight", item.weight, clean_weight)):
        try:
            values[name] = None if value is None else check(value)
        except ValueError as error:
            faults.append(Fault(index, name, str(error)))
    if most_bytes is not None and len(str(values.get("text", "")).encode()) > most_bytes:
        faults.append(Fault(index, "text", f"it is longer than {most_bytes} bytes"))
    return (item if faults else replace(item, **values)), faults


def no_such_task(task: str, tasks: Collection[str]) -> TaskNotCreated:
    """What is said to those who name a task that does not exist."""
    near = get_close_matches(task, sorted(tasks), n=1, cutoff=0.5)
    nearest = f"; did you mean {near[0]!r}?" if near else ""
    return TaskNotCreated(task=task, known=", ".join(sorted(tasks)) or "none", nearest=nearest)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be a string")  # noqa: TRY004 - one error for all
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("it holds a lone surrogate, which is no character") from None
    return value
