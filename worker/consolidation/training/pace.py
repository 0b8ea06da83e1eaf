"""How fast a training goes, and how long it will last at that pace."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Pace:
    """The steps done of all there will be, the texts trained on, each time they were, and the time since the start."""

    steps: int
    step: int = 0
    texts: int = 0
    _begun: float = field(default_factory=time.monotonic)

    def note(self, texts: int) -> None:
        """One more step, on so many texts."""
        self.step += 1
        self.texts += texts

    def metrics(self) -> dict[str, float]:
        """For a line of progress: texts a second, and how many seconds are left at that speed."""
        seconds = time.monotonic() - self._begun
        left = seconds / max(1, self.step) * (self.steps - self.step)
        return {"samples_per_s": round(self.texts / seconds, 1), "seconds_left": round(left)}
