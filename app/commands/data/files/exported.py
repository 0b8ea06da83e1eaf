"""The columns of an export of Pawl's own samples, and what an import takes from them.

A row says everything that the model needs to come out the same: `weight` and `emphasis` (how much the sample counts),
the state, and for its task what was chosen when the heads were made (`heads`, as JSON). Of the rows of a task only the
first one that an import takes says the centre, which is some thousand numbers.

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula. In CSV such a text gets an apostrophe in
front, as does one that begins with an apostrophe, and an import of the export takes it away again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pawl.domain.imports import ExportedHeads
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import Origin, SampleState

MODEL_COLUMNS = ("encoder", "heads")
COLUMNS = (
    *("id", "task", "text", "label", "state", "weight", "emphasis", "pinned", "origin", "source"),
    *("quarantined_by", "reason", "learned_in_version", "created_at", "updated_at", *MODEL_COLUMNS),
)
_NEEDED = frozenset(COLUMNS) - {"id", "origin", "learned_in_version", "created_at", "updated_at"}
_APOSTROPHE = "'"
# The apostrophe too: else an import would take away one that the text itself begins with.
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", _APOSTROPHE)
LEAVING = frozenset({SampleState.REJECTED, SampleState.DEAD, SampleState.RETRACTED})
"""States of samples that had left the model for good; an import leaves them out."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What an export says of a sample besides text and label. `hold` keeps a quarantined one where it is."""

    task: str
    state: SampleState
    weight: float
    emphasis: float
    pinned: bool
    origin: Origin
    source: str | None
    hold: Hold | None
    heads: ExportedHeads | None
    encoder: str | None

    @property
    def is_gone(self) -> bool:
        """Whether it had left the model for good."""
        return self.state in LEAVING


def is_export(fields: Mapping[str, Any]) -> bool:
    """Whether a record has the columns of an export."""
    return fields.keys() >= _NEEDED


def read_attributes(fields: Mapping[str, Any]) -> Attributes:
    """Raises `ValueError` naming the column that holds something else."""
    state = _one_of(SampleState, fields["state"], "state")
    hold = None
    if state is SampleState.QUARANTINED:
        kind = _one_of(QuarantineKind, fields["quarantined_by"] or QuarantineKind.GATE, "quarantined_by")
        hold = Hold(kind, _text(fields["reason"]) or "as it was where it was exported")
    origin = _one_of(Origin, fields.get("origin") or Origin.IMPORT, "origin")
    weight, emphasis = _number(fields, "weight"), _number(fields, "emphasis")
    return Attributes(
        task=str(fields["task"] or ""),
        state=state,
        weight=1.0 if weight is None else weight,
        emphasis=1.0 if emphasis is None else emphasis,
        pinned=str(fields["pinned"]).lower() in {"true", "1"},
        origin=Origin.IMPORT if origin is Origin.IMPORT else Origin.RESTORED,
        source=_text(fields["source"]),
        hold=hold,
        heads=_heads(fields["heads"]),
        encoder=_text(fields["encoder"]),
    )


def escaped(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return _APOSTROPHE + text if text.startswith(_DANGEROUS) else text


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    return text[1:] if text.startswith(_APOSTROPHE) and text[1:].startswith(_DANGEROUS) else text


def _text(value: Any) -> str | None:
    return str(value) if value not in {None, ""} else None


def _heads(value: Any) -> ExportedHeads | None:
    if value in {None, ""}:
        return None
    try:
        return ExportedHeads.from_json(json.loads(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"heads: {error}") from None


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields[name]
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is no number") from None
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{name}: it must be a number above 0, not {value!r}")
    return number


def _one_of(kind: Any, value: Any, name: str) -> Any:
    try:
        return kind(str(value))
    except ValueError:
        raise ValueError(f"{name}: {value!r} is none of {', '.join(kind)}") from None
