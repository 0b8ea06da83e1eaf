"""B1: CLINC150, 150 intents in 15 steps of 10 classes.

    python -m benchmarks.learning.b1 --data ../shared/data --seeds 5
    python -m benchmarks.learning.b1 --data ../shared/data --rows consolidated --seeds 1    # a real training: minutes

Training texts that are test texts as well (after normalising) are left out of the training texts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.harness import Json, start
from benchmarks.learning.courses import reach, start_course

_GOAL, _CONSOLIDATED = 95.0, 96.9


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    start_course("b1", __doc__, argv, "clinc150", 15, goals)


def goals(results: Json) -> list[Json]:
    """Design section 8."""
    alone = reach(results, "pawl", _GOAL, unlike_joint=0.5, forgetting=0.3)
    return alone + reach(results, "consolidated", _CONSOLIDATED, unlike_joint=0.5, forgetting=0.3)


if __name__ == "__main__":
    sys.exit(start(main))
