"""B5: financial sentiment (FinancialPhraseBank, 50 % agreement, 80/20 drawn with the seed), everything in one import.

    python -m benchmarks.learning.b5 --data ../shared/data --seeds 5
    python -m benchmarks.learning.b5 --data ../shared/data --rows base_semantic,base    # on all-mpnet-base-v2
    python -m benchmarks.learning.b5 --data ../shared/data --rows consolidated --seeds 1    # a real training: minutes

The frozen encoder is weak here: head updates alone are what a consolidation has to beat, on the same split.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.harness import Json, start
from benchmarks.learning.courses import reach, start_course

_ROWS = "ngram,class_mean,embedding_only,no_young,no_prior,semantic,pawl"
_ALONE = {"pawl": 81.0, "base": 84.0}
_GOAL, _GAIN = 86.0, 5.0


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    start_course("b5", __doc__, argv, "financial_phrasebank", 1, goals, _ROWS)


def goals(results: Json) -> list[Json]:
    """Design section 8."""
    alone = [one for row, wanted in _ALONE.items() for one in reach(results, row, wanted)]
    return alone + reach(results, "consolidated", _GOAL, gain=_GAIN)


if __name__ == "__main__":
    sys.exit(start(main))
