"""B5: financial sentiment (FinancialPhraseBank, 50 % agreement, 80/20 drawn with the seed), everything in one import.

    python -m benchmarks.learning.b5 --data ../shared/data --seeds 5

The frozen encoder is weak here: this is what head updates alone come to, which a consolidation has to beat. One is
measured by one more row of `benchmarks/learning/rows.py`, whose learner consolidates when it rests.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.harness import Json, start
from benchmarks.learning.courses import start_course

_ROWS = "ngram,class_mean,embedding_only,no_young,no_prior,pawl"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the protocol."""
    start_course("b5", __doc__, argv, "financial_phrasebank", 1, goals, _ROWS)


def goals(results: Json) -> list[Json]:
    """Design section 8 sets goals for consolidation alone."""
    del results
    return []


if __name__ == "__main__":
    sys.exit(start(main))
