"""What is known of the learner that works: its lease and its heartbeat. Frozen values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pawl.json_values import Json


class EncoderState(StrEnum):
    """What a learner that starts finds out about the encoder that was chosen; in its heartbeat's details."""

    UNKNOWN = "unknown"
    USABLE = "usable"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class LearnerStatus:
    """The learner's lease and heartbeat; `details` is what it says of itself."""

    holder: str
    state: str
    heartbeat_at: datetime
    expires_at: datetime
    details: Json

    @property
    def encoder(self) -> EncoderState:
        """Whether the encoder that was chosen can be used; `usable` where the details say nothing of it."""
        return EncoderState(self.details.get("encoder", EncoderState.USABLE))

    @property
    def problem(self) -> str:
        """What is wrong, in its words; empty where nothing is."""
        return str(self.details.get("problem", ""))
