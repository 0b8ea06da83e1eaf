"""How the scores of two heads are added."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pawl.classifier.stacking import Stacking
from pawl.domain.versions import LexicalInfo

_DEVIATIONS = st.floats(0.0, 10.0)


@given(st.floats(0.0, 5.0), _DEVIATIONS, _DEVIATIONS)
def test_the_shares_add_up_to_one_and_bring_the_heads_to_one_scale(
    words: float, semantic: float, lexical: float
) -> None:
    stacking = Stacking.of(words, semantic, lexical)
    assert stacking.semantic + stacking.lexical == pytest.approx(1.0)
    assert min(stacking.semantic, stacking.lexical) >= 0
    if semantic > 1e-3 and lexical > 1e-3 and words > 1e-3:
        assert stacking.lexical * lexical == pytest.approx(words * stacking.semantic * semantic)


def test_a_head_that_says_nothing_leaves_the_other_alone() -> None:
    assert Stacking.of(1.0, 0.0, 0.2) == Stacking.LEXICAL
    assert Stacking.of(1.0, 0.2, 0.0).by == "meaning"
    assert Stacking.of(0.0, 0.2, 0.1) == Stacking.SEMANTIC
    assert [Stacking.SEMANTIC.by, Stacking.LEXICAL.by, Stacking.of(0.3, 1, 1).by] == ["meaning", "words", "both"]


def test_the_manifest_names_it() -> None:
    info = LexicalInfo("0" * 64, 4096, 0.1, words=0.5, semantic=0.7, lexical=0.3)
    assert Stacking.from_info(info) == Stacking(0.5, 0.7, 0.3)
    assert Stacking.from_info(None) == Stacking.SEMANTIC
    assert (Stacking.from_info(info).share("semantic"), Stacking.from_info(info).share("lexical")) == (0.7, 0.3)


@pytest.mark.parametrize("numbers", [(1, 0.5, 0.6), (1, -0.5, 1.5), (-1, 0.5, 0.5), (math.nan, 1, 0), (1, math.nan, 1)])
def test_shares_that_are_none_are_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        Stacking(*numbers)
