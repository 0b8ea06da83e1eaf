"""Imports: many rows that were accepted together, all or none. Frozen values, no I/O."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pawl.domain.samples import SampleState
from pawl.domain.versions import HeadName
from pawl.json_values import Json


@dataclass(frozen=True, slots=True)
class ExportedCentre:
    """What was taken from every embedding where samples were exported; it is no function of those that are left there.

    encoder  digest of the encoder whose embeddings these were.
    numbers  d of them, each a float32; none where embeddings were taken as they are.

    Raises:
        ValueError: A number is not finite.
    """

    encoder: str
    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.numbers)):
            raise ValueError("centre: it holds what is no number")

    def to_json(self) -> Json:
        """Plain JSON values; the numbers as base64 of little-endian float32, which is exact and short."""
        packed = struct.pack(f"<{len(self.numbers)}f", *self.numbers)
        return {"encoder": self.encoder, "numbers": base64.b64encode(packed).decode()}

    @staticmethod
    def from_json(value: Any) -> ExportedCentre:
        """Parses what `to_json` gave; raises `ValueError` for anything else."""
        try:
            packed = base64.b64decode(value["numbers"], validate=True)
            numbers = struct.unpack(f"<{len(packed) // 4}f", packed)
            encoder = str(value["encoder"])
        except (KeyError, TypeError, ValueError, struct.error) as error:
            raise ValueError(f"centre: it is none ({error!r})") from error
        return ExportedCentre(encoder, numbers)


@dataclass(frozen=True, slots=True)
class ExportedHeads:
    """What was chosen for a task's heads where its samples were exported.

    regularisation            lambda of each head.
    words, semantic, lexical  how the heads are stacked (`LexicalInfo`).
    temperature               of the pair.
    centre                    of the features of all tasks; None where it is not said.

    Raises:
        ValueError: A number is out of its range.
    """

    regularisation: Mapping[HeadName, float]
    words: float
    semantic: float
    lexical: float
    temperature: float
    centre: ExportedCentre | None = None

    def __post_init__(self) -> None:
        for name, number in (*self.regularisation.items(), ("temperature", self.temperature)):
            if not (math.isfinite(number) and number > 0):
                raise ValueError(f"{name}: it must be a number above 0, not {number!r}")
        shares = (self.words, self.semantic, self.lexical)
        is_stacking = all(math.isfinite(share) and share >= 0 for share in shares)
        if not is_stacking or abs(self.semantic + self.lexical - 1.0) > 1e-6:
            raise ValueError(f"words {self.words}: shares {self.semantic} and {self.lexical} are none of two heads")

    def to_json(self) -> Json:
        """Plain JSON values."""
        return {**asdict(self), "centre": None if self.centre is None else self.centre.to_json()}

    @staticmethod
    def from_json(value: Any) -> ExportedHeads:
        """Parses what `to_json` gave; raises `ValueError` for anything else."""
        try:
            regularisation: dict[HeadName, float] = {
                "lexical" if head == "lexical" else "semantic": float(number)
                for head, number in value["regularisation"].items()
            }
            words, semantic, lexical, temperature = (
                float(value[name]) for name in ("words", "semantic", "lexical", "temperature")
            )
            said = value["centre"]
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it says nothing of heads ({error!r})") from error
        centre = None if said is None else ExportedCentre.from_json(said)
        return ExportedHeads(regularisation, words, semantic, lexical, temperature, centre)


@dataclass(frozen=True, slots=True)
class NewImport:
    """An import as it is handed to the store; the samples it brings name its `id` (`im_...`).

    `name` is what the person who imported calls it (the file's name), `rows` is how many it holds.
    `accept_reason` says why its owner wants it learned whatever the gate finds; None leaves that to the gate.
    `heads` is what was chosen for the task's heads where its samples were exported: a first version made of them alone
    takes it over.
    """

    id: str
    task: str
    name: str
    rows: int
    accept_reason: str | None = None
    heads: ExportedHeads | None = None


@dataclass(frozen=True, slots=True)
class Import:
    """A stored import."""

    id: str
    task: str
    name: str
    rows: int
    accept_reason: str | None
    created_at: datetime
    heads: ExportedHeads | None = None


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """So many samples of one label that are in one state for one reason.

    `replaced`: newer labels for their texts came; then `reason` is None, because each names another sample.
    """

    task: str
    label: str
    state: SampleState
    reason: str | None
    replaced: bool
    count: int
