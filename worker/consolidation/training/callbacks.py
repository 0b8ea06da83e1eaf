"""Whom a training talks to while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from worker.consolidation.training.schedule import Evaluation

Metrics = Mapping[str, float | str]
Report = Callable[[int, int, Metrics], None]
"""Takes (steps done, steps in all, metrics) of a line of progress."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """`due` is asked between two steps and says whether a line of progress is wanted, which `report` then gets.

    Only then is the device asked for the loss, so that CUDA is not made to wait in the other steps. `evaluated` gets
    each evaluation. Each of them may end the training by raising.
    """

    due: Callable[[], bool] = lambda: False
    report: Report = lambda *_: None
    evaluated: Callable[[Evaluation], None] = lambda _: None


SILENT = Callbacks()
"""Nobody listens."""
